-- One row an order: this service's copy of it. Its payments hang under it, and are locked by it.
CREATE TABLE accounts (
    order_id uuid PRIMARY KEY,
    user_id text NOT NULL,
    currency text NOT NULL,
    total bigint NOT NULL CHECK (total >= 0),
    -- 1 created, 2 awaiting payment, 3 completed, 4 cancelled
    order_status smallint NOT NULL,
    order_version bigint NOT NULL,
    -- The trace in which the order's story is told.
    traceparent text NOT NULL,
    tracestate text,
    -- Counts the changes of its payments.
    version bigint NOT NULL
) WITH (fillfactor = 60);

CREATE TABLE payments (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES accounts,
    user_id text NOT NULL,
    method text NOT NULL,
    -- 1 pending, 2 succeeded, 3 failed, 4 refund pending, 5 refunded
    status smallint NOT NULL,
    failure_reason text CHECK ((failure_reason IS NOT NULL) = (status = 3)),
    provider text NOT NULL,
    provider_reference text,
    -- While the provider owes an answer: how often it was asked, with which of the payment's keys, since when; since when
    -- it is only looked for what was done under that key; and when it is asked again.
    tries integer NOT NULL,
    key_number integer NOT NULL,
    keyed_at timestamptz NOT NULL,
    looking_since timestamptz,
    next_try_at timestamptz NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 60);
-- Stands behind the code: nobody pays twice for one order.
CREATE UNIQUE INDEX payments_one_an_order ON payments (order_id) WHERE status <> 3;
-- All payments of an order, for its account and for lists.
CREATE INDEX payments_order ON payments (order_id, id DESC);
CREATE INDEX payments_user ON payments (user_id, id DESC);
-- What the provider is to be asked about, and nothing else.
CREATE INDEX payments_due ON payments (next_try_at) WHERE status IN (1, 4);

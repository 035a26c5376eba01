CREATE TABLE orders (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    ticket_id uuid NOT NULL,
    ticket_title text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    currency text NOT NULL,
    unit_price bigint NOT NULL CHECK (unit_price >= 0),
    -- 1 created, 2 awaiting payment, 3 completed, 4 cancelled
    status smallint NOT NULL,
    -- Of a cancelled order: 1 buyer, 2 expired, 3 sold out, 4 price changed, 5 withdrawn, 6 unknown ticket
    cancel_reason smallint CHECK ((cancel_reason IS NOT NULL) = (status = 4)),
    expires_at timestamptz NOT NULL,
    -- The trace in which this order's story is told.
    traceparent text NOT NULL,
    tracestate text,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 60);
-- Lists are of one user, newest first; operators' are by id alone.
CREATE INDEX orders_user ON orders (user_id, id DESC);

-- This service's copy of tickets, as they were last heard of.
CREATE TABLE tickets (
    id uuid PRIMARY KEY,
    title text NOT NULL,
    currency text NOT NULL,
    price bigint NOT NULL,
    available integer NOT NULL,
    withdrawn boolean NOT NULL,
    version bigint NOT NULL
) WITH (fillfactor = 70);

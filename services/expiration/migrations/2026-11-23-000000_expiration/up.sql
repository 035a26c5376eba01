CREATE TABLE expirations (
    order_id uuid PRIMARY KEY,
    expires_at timestamptz NOT NULL,
    -- 1 scheduled, 2 expired, 3 dropped
    status smallint NOT NULL,
    -- The span that set the timer.
    traceparent text NOT NULL,
    tracestate text
) WITH (fillfactor = 70);
-- What is due, and nothing else: it stays as small as the number of open orders.
CREATE INDEX expirations_due ON expirations (expires_at) WHERE status = 1;
-- Lists are by status, newest order first.
CREATE INDEX expirations_status ON expirations (status, order_id DESC);

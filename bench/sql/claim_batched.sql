-- Five hundred due timers claimed, marked, and told of.
BEGIN;
WITH due AS (
    SELECT order_id FROM expiration.expirations WHERE status = 1 AND expires_at <= now()
    ORDER BY expires_at LIMIT 500 FOR UPDATE SKIP LOCKED
), fired AS (
    UPDATE expiration.expirations e SET status = 2 FROM due WHERE e.order_id = due.order_id RETURNING e.order_id
)
INSERT INTO expiration.outbox (event_id, event_type, key, traceparent, payload)
SELECT gen_random_uuid(), 'expiration.expired', order_id::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload()
FROM fired;
COMMIT;

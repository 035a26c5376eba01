-- One whole saga as it is usually written: a transaction a step, and in it a row that tells a repeated event, the lock,
-- the change, and the event for the outbox.
\set n :n + 1
\set o :client_id * 1000000000 + :n
\set t random(0, 9999)

-- orders: placed
BEGIN;
INSERT INTO orders.orders VALUES (id(:o::bigint), 'alice', id(:t::bigint), 'Concert', 1, 'USD', 29900, 1, NULL, now() + interval '2 minutes', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL, 1, now(), now());
INSERT INTO orders.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16), 'order.created', id(:o::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- tickets: held
BEGIN;
INSERT INTO tickets.inbox VALUES (id(:o::bigint * 16));
SELECT * FROM tickets.tickets WHERE id = id(:t::bigint) FOR UPDATE;
INSERT INTO tickets.reservations VALUES (id(:o::bigint), id(:t::bigint), 1, 1);
UPDATE tickets.tickets SET reserved = reserved + 1, version = version + 1, updated_at = now() WHERE id = id(:t::bigint);
INSERT INTO tickets.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16 + 1), 'ticket.updated', id(:t::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- payments: its copy of the order
BEGIN;
INSERT INTO payments.inbox VALUES (id(:o::bigint * 16));
INSERT INTO payments.accounts VALUES (id(:o::bigint), 'alice', 'USD', 29900, 1, 1, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL);
COMMIT;

-- expiration: the timer
BEGIN;
INSERT INTO expiration.inbox VALUES (id(:o::bigint * 16));
INSERT INTO expiration.expirations VALUES (id(:o::bigint), now() + interval '2 minutes', 1, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL);
COMMIT;

-- orders: awaits payment; and its copy of the ticket
BEGIN;
INSERT INTO orders.inbox VALUES (id(:o::bigint * 16 + 1));
SELECT * FROM orders.orders WHERE id = id(:o::bigint) FOR UPDATE;
UPDATE orders.orders SET status = 2, version = 2, updated_at = now() WHERE id = id(:o::bigint);
UPDATE orders.tickets SET available = available - 1, version = version + 1 WHERE id = id(:t::bigint);
INSERT INTO orders.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16 + 2), 'order.awaiting_payment', id(:o::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- payments: its copy of the order
BEGIN;
INSERT INTO payments.inbox VALUES (id(:o::bigint * 16 + 2));
UPDATE payments.accounts SET order_status = 2, order_version = 2 WHERE order_id = id(:o::bigint);
COMMIT;

-- payments: the intent
BEGIN;
SELECT * FROM payments.accounts WHERE order_id = id(:o::bigint) FOR UPDATE;
INSERT INTO payments.payments VALUES (id(:o::bigint), id(:o::bigint), 'alice', 'pm_card_visa', 1, NULL, 'stripe', NULL, 1, 1, now(), NULL, now() + interval '30 seconds', 1, now(), now());
INSERT INTO payments.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16 + 3), 'payment.created', id(:o::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- payments: the outcome
BEGIN;
SELECT * FROM payments.accounts WHERE order_id = id(:o::bigint) FOR UPDATE;
UPDATE payments.payments SET status = 2, provider_reference = 'pi_3MtwBwLkdIwHu7ix28a3tqPa', version = 2, updated_at = now() WHERE id = id(:o::bigint);
INSERT INTO payments.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16 + 4), 'payment.succeeded', id(:o::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- orders: completed
BEGIN;
INSERT INTO orders.inbox VALUES (id(:o::bigint * 16 + 4));
SELECT * FROM orders.orders WHERE id = id(:o::bigint) FOR UPDATE;
UPDATE orders.orders SET status = 3, version = 3, updated_at = now() WHERE id = id(:o::bigint);
INSERT INTO orders.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16 + 5), 'order.completed', id(:o::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- tickets: sold
BEGIN;
INSERT INTO tickets.inbox VALUES (id(:o::bigint * 16 + 5));
SELECT * FROM tickets.tickets WHERE id = id(:t::bigint) FOR UPDATE;
UPDATE tickets.reservations SET status = 2 WHERE order_id = id(:o::bigint);
UPDATE tickets.tickets SET reserved = reserved - 1, sold = sold + 1, version = version + 1, updated_at = now() WHERE id = id(:t::bigint);
INSERT INTO tickets.outbox (event_id, event_type, key, traceparent, payload) VALUES (id(:o::bigint * 16 + 6), 'ticket.updated', id(:t::bigint)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload());
COMMIT;

-- payments: its copy of the order
BEGIN;
INSERT INTO payments.inbox VALUES (id(:o::bigint * 16 + 5));
UPDATE payments.accounts SET order_status = 3, order_version = 3 WHERE order_id = id(:o::bigint);
COMMIT;

-- expiration: the timer is dropped
BEGIN;
INSERT INTO expiration.inbox VALUES (id(:o::bigint * 16 + 5));
UPDATE expiration.expirations SET status = 3 WHERE order_id = id(:o::bigint);
COMMIT;

-- orders: its copy of the ticket
BEGIN;
INSERT INTO orders.inbox VALUES (id(:o::bigint * 16 + 6));
UPDATE orders.tickets SET version = version + 1 WHERE id = id(:t::bigint);
COMMIT;

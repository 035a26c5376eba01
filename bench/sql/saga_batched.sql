-- A hundred whole sagas with the same rows, a statement a table for the whole batch: what the server can do with them at
-- best. Instead of a row an event, an offset a batch moves.
\set n :n + 100
\set o :client_id * 1000000000 + :n
\set t random(0, 9999)

-- orders: placed
BEGIN;
INSERT INTO orders.orders SELECT id(:o::bigint + g), 'alice', id((:t::bigint + g) % 10000), 'Concert', 1, 'USD', 29900, 1, NULL, now() + interval '2 minutes', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL, 1, now(), now() FROM generate_series(1, 100) g;
INSERT INTO orders.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 0), 'order.created', id(:o::bigint + g)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- tickets: held
BEGIN;
UPDATE tickets.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
SELECT * FROM tickets.tickets WHERE id = ANY (ARRAY(SELECT id((:t::bigint + g) % 10000) FROM generate_series(1, 100) g)) ORDER BY id FOR UPDATE;
INSERT INTO tickets.reservations SELECT id(:o::bigint + g), id((:t::bigint + g) % 10000), 1, 1 FROM generate_series(1, 100) g;
UPDATE tickets.tickets SET reserved = reserved + 1, version = version + 1, updated_at = now() FROM (SELECT id((:t::bigint + g) % 10000) AS t FROM generate_series(1, 100) g) b WHERE id = b.t;
INSERT INTO tickets.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 1), 'ticket.updated', id((:t::bigint + g) % 10000)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- payments: its copies of the orders
BEGIN;
UPDATE payments.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
INSERT INTO payments.accounts SELECT id(:o::bigint + g), 'alice', 'USD', 29900, 1, 1, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, 100) g;
COMMIT;

-- expiration: the timers
BEGIN;
UPDATE expiration.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
INSERT INTO expiration.expirations SELECT id(:o::bigint + g), now() + interval '2 minutes', 1, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, 100) g;
COMMIT;

-- orders: await payment; and its copies of the tickets
BEGIN;
UPDATE orders.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
SELECT * FROM orders.orders WHERE id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g)) ORDER BY id FOR UPDATE;
UPDATE orders.orders SET status = 2, version = 2, updated_at = now() WHERE id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
UPDATE orders.tickets SET available = available - 1, version = version + 1 FROM (SELECT id((:t::bigint + g) % 10000) AS t FROM generate_series(1, 100) g) b WHERE id = b.t;
INSERT INTO orders.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 2), 'order.awaiting_payment', id(:o::bigint + g)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- payments: its copies of the orders
BEGIN;
UPDATE payments.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
UPDATE payments.accounts SET order_status = 2, order_version = 2 WHERE order_id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
COMMIT;

-- payments: the intents
BEGIN;
SELECT * FROM payments.accounts WHERE order_id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g)) ORDER BY order_id FOR UPDATE;
INSERT INTO payments.payments SELECT id(:o::bigint + g), id(:o::bigint + g), 'alice', 'pm_card_visa', 1, NULL, 'stripe', NULL, 1, 1, now(), NULL, now() + interval '30 seconds', 1, now(), now() FROM generate_series(1, 100) g;
INSERT INTO payments.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 3), 'payment.created', id(:o::bigint + g)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- payments: the outcomes
BEGIN;
SELECT * FROM payments.accounts WHERE order_id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g)) ORDER BY order_id FOR UPDATE;
UPDATE payments.payments SET status = 2, provider_reference = 'pi_3MtwBwLkdIwHu7ix28a3tqPa', version = 2, updated_at = now() WHERE id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
INSERT INTO payments.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 4), 'payment.succeeded', id(:o::bigint + g)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- orders: completed
BEGIN;
UPDATE orders.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
SELECT * FROM orders.orders WHERE id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g)) ORDER BY id FOR UPDATE;
UPDATE orders.orders SET status = 3, version = 3, updated_at = now() WHERE id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
INSERT INTO orders.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 5), 'order.completed', id(:o::bigint + g)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- tickets: sold
BEGIN;
UPDATE tickets.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
SELECT * FROM tickets.tickets WHERE id = ANY (ARRAY(SELECT id((:t::bigint + g) % 10000) FROM generate_series(1, 100) g)) ORDER BY id FOR UPDATE;
UPDATE tickets.reservations SET status = 2 WHERE order_id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
UPDATE tickets.tickets SET reserved = reserved - 1, sold = sold + 1, version = version + 1, updated_at = now() FROM (SELECT id((:t::bigint + g) % 10000) AS t FROM generate_series(1, 100) g) b WHERE id = b.t;
INSERT INTO tickets.outbox (event_id, event_type, key, traceparent, payload) SELECT id((:o::bigint + g) * 16 + 6), 'ticket.updated', id((:t::bigint + g) % 10000)::text, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', payload() FROM generate_series(1, 100) g;
COMMIT;

-- payments: its copies of the orders
BEGIN;
UPDATE payments.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
UPDATE payments.accounts SET order_status = 3, order_version = 3 WHERE order_id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
COMMIT;

-- expiration: the timers are dropped
BEGIN;
UPDATE expiration.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
UPDATE expiration.expirations SET status = 3 WHERE order_id = ANY (ARRAY(SELECT id(:o::bigint + g) FROM generate_series(1, 100) g));
COMMIT;

-- orders: its copies of the tickets
BEGIN;
UPDATE orders.inbox_offsets SET next_offset = next_offset + 100, last_offset = next_offset + 100 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
UPDATE orders.tickets SET version = version + 1 FROM (SELECT id((:t::bigint + g) % 10000) AS t FROM generate_series(1, 100) g) b WHERE id = b.t;
COMMIT;

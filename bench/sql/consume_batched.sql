-- Five hundred copies of new orders, as payments stores them, and the offset moved.
\set n :n + 500
\set o :client_id * 1000000000 + :n
BEGIN;
UPDATE payments.inbox_offsets SET next_offset = next_offset + 500, last_offset = next_offset + 500 - 1, last_written = now() WHERE consumer_group = 'batched' AND partition = :client_id;
INSERT INTO payments.accounts SELECT id(:o::bigint + g), 'alice', 'USD', 29900, 1, 1, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', NULL FROM generate_series(1, 500) g;
COMMIT;

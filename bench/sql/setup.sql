-- What the yardsticks need besides the services' own tables, of which each has a schema here: rows for ids, and
-- what is usually kept to tell an event that comes twice.
CREATE FUNCTION public.id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT lpad(to_hex(n), 32, '0')::uuid $$;
CREATE FUNCTION public.payload() RETURNS bytea LANGUAGE sql IMMUTABLE AS
    $$ SELECT decode(repeat('5a', 250), 'hex') $$;
INSERT INTO tickets.tickets
    SELECT public.id(n), 'seller', 'Concert', 'USD', 29900, 1000000, 0, 0, 1, 1, 1, now(), now()
    FROM generate_series(0, 9999) n;
INSERT INTO orders.tickets SELECT public.id(n), 'Concert', 'USD', 29900, 1000000, false, 1 FROM generate_series(0, 9999) n;
INSERT INTO tickets.inbox_offsets SELECT 'batched', 'orders', n, 0 FROM generate_series(0, 99) n;
INSERT INTO orders.inbox_offsets SELECT 'batched', 'tickets', n, 0 FROM generate_series(0, 99) n;
INSERT INTO payments.inbox_offsets SELECT 'batched', 'orders', n, 0 FROM generate_series(0, 99) n;
INSERT INTO expiration.inbox_offsets SELECT 'batched', 'orders', n, 0 FROM generate_series(0, 99) n;

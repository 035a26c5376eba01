-- A payment is written by nobody but a transaction that holds its account locked: the reference told what is known, by a
-- query of its own for every payment and a lock on its account.
ALTER TABLE payments DROP CONSTRAINT payments_order_id_fkey;

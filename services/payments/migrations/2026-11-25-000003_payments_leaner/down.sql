DROP INDEX payments_one_an_order;
CREATE UNIQUE INDEX payments_one_an_order ON payments (order_id) WHERE status <> 3;
CREATE INDEX payments_order ON payments (order_id, id DESC);

ALTER TABLE accounts ADD COLUMN version bigint NOT NULL DEFAULT 0;
UPDATE accounts SET version = coalesce((SELECT max(version) FROM payments WHERE payments.order_id = accounts.order_id), 0);
ALTER TABLE accounts ALTER COLUMN version DROP DEFAULT;

-- An account's version is its payments' latest: kept twice, it had the account written with each of them.
ALTER TABLE accounts DROP COLUMN version;

-- One index does for both: whose payments those are, and that no two of an order may be other than failed.
DROP INDEX payments_order;
DROP INDEX payments_one_an_order;
CREATE UNIQUE INDEX payments_one_an_order ON payments (order_id, (CASE WHEN status = 3 THEN id ELSE order_id END));

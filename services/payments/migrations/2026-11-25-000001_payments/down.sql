DROP TABLE payments, accounts;

DROP TABLE tickets, orders;

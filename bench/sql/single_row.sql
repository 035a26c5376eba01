INSERT INTO pgbench_row (filler) VALUES (repeat('x', 180));

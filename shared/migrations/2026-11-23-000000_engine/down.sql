DROP TABLE outbox_cursor, outbox, inbox_offsets, request_ids, writers;

ALTER TABLE inbox_offsets DROP COLUMN last_offset, DROP COLUMN last_written;

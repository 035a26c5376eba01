-- The message that was handled last, and when the broker wrote it: by that a topic that was made anew, and has grown past
-- the offset since, is told from the one that was read. It says nothing unless it is the one before the next offset, as it
-- isn't once an operator has set that.
ALTER TABLE inbox_offsets ADD COLUMN last_offset bigint, ADD COLUMN last_written timestamptz;

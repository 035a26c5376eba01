-- The engine's own tables, the same in every service's database.

-- One row a stream of transactions. Every transaction moves its writer's row, so that after a commit whose answer was
-- lost the row tells whether it happened.
CREATE TABLE writers (
    id uuid PRIMARY KEY,
    batch bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What makes repeating a create harmless. Kept for two days.
CREATE TABLE request_ids (
    caller text NOT NULL,
    rpc text NOT NULL,
    request_id uuid NOT NULL,
    content bytea NOT NULL,
    resource uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, rpc, request_id)
);
CREATE INDEX request_ids_created_at ON request_ids USING brin (created_at) WITH (pages_per_range = 16);

-- How far each consumer group has come, in the same transaction as the effects.
CREATE TABLE inbox_offsets (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 50);

-- Events on their way to Kafka, appended in the transaction that caused them. Append-only; partitioned by time so that
-- old ones can be dropped whole. `xid` tells a relay what became visible since it last looked.
CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL DEFAULT now(),
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    key text NOT NULL,
    traceparent text NOT NULL,
    tracestate text,
    payload bytea NOT NULL
) PARTITION BY RANGE (created_at);
CREATE INDEX outbox_xid ON outbox (xid);
CREATE INDEX outbox_seq ON outbox (seq);

-- One row: how far the relay has come, who it is, and what it publishes to.
CREATE TABLE outbox_cursor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- All that was visible in this snapshot has been published.
    published pg_snapshot NOT NULL,
    -- While a large difference is worked off: up to which snapshot it goes, and how far it has been published.
    target pg_snapshot,
    published_seq bigint,
    -- The lease, on this database's clock.
    holder uuid,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    -- Decided once, when the topic was first seen: partitions added later don't move keys.
    topic text,
    partitions integer CHECK (partitions > 0)
) WITH (fillfactor = 50);
INSERT INTO outbox_cursor (published) VALUES ('1:1:'::pg_snapshot);

CREATE TABLE counters (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    title text NOT NULL,
    -- The database's own rule, of which the code knows nothing: what the write path does about such is tested with it.
    value integer NOT NULL CHECK (value <> 666),
    "limit" integer NOT NULL,
    version bigint NOT NULL,
    -- When it begins again at 0, if it does.
    resets_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX counters_owner ON counters (owner, id DESC);
CREATE INDEX counters_due ON counters (resets_at) WHERE resets_at IS NOT NULL;

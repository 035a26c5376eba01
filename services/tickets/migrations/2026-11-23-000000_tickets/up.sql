CREATE TABLE tickets (
    id uuid PRIMARY KEY,
    seller_id text NOT NULL,
    title text NOT NULL,
    currency text NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    quantity integer NOT NULL CHECK (quantity BETWEEN 1 AND 1000000),
    reserved integer NOT NULL CHECK (reserved >= 0),
    sold integer NOT NULL CHECK (sold >= 0),
    -- 1 listed, 2 withdrawn
    status smallint NOT NULL,
    version bigint NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- Stands behind the code: nothing is ever oversold.
    CHECK (reserved + sold <= quantity)
) WITH (fillfactor = 70);
-- Lists are by status, newest first, of everyone or of one seller.
CREATE INDEX tickets_status ON tickets (status, id DESC);
CREATE INDEX tickets_seller ON tickets (seller_id, status, id DESC);

-- One row for every order that this service has heard of.
CREATE TABLE reservations (
    order_id uuid PRIMARY KEY,
    ticket_id uuid NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    -- 1 held, 2 sold, 3 released, 4 refused, 5 ended before it began
    status smallint NOT NULL
) WITH (fillfactor = 70);

-- Models as uploaded: what is there never changes; weights may come once, later.
CREATE TABLE models (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 24),
    name TEXT NOT NULL CHECK (length(name) <= 127),
    created_ms BIGINT NOT NULL,
    architecture TEXT NOT NULL REFERENCES blobs (id),
    weights TEXT REFERENCES blobs (id),
    summary TEXT NOT NULL -- JSON
);
-- Serve: does a model still refer to this blob?
CREATE INDEX models_architecture ON models (architecture);
CREATE INDEX models_weights ON models (weights) WHERE weights IS NOT NULL;

-- The first answer to a request that made something under an Idempotency-Key, for whoever repeats it: written in the transaction that made it.
CREATE TABLE answers (
    key TEXT NOT NULL PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint TEXT NOT NULL, -- SHA-256 of method, address and body
    created_ms BIGINT NOT NULL,
    location TEXT NOT NULL,
    body TEXT NOT NULL -- JSON
);
-- Serves: which are too old?
CREATE INDEX answers_created ON answers (created_ms);

-- Immutable files: blobs/<id>. A row stands here exactly as long as another row refers to it; files without a row are swept.
CREATE TABLE blobs (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 24),
    hash TEXT NOT NULL CHECK (length(hash) = 64), -- SHA-256, hex
    bytes BIGINT NOT NULL CHECK (bytes >= 0)
);

-- What lets a client in. Of the token itself only its hash is kept; a revoked or expired one stays, so that it is seen that there were tokens.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 24),
    tenant TEXT NOT NULL CHECK (length(tenant) BETWEEN 1 AND 31),
    name TEXT NOT NULL CHECK (length(name) <= 127),
    scope TEXT NOT NULL CHECK (scope IN ('read', 'submit', 'admin')),
    hash TEXT NOT NULL CHECK (length(hash) = 64), -- SHA-256 of the token's text, hex
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT, -- NULL: never
    revoked_ms BIGINT,
    used_ms BIGINT -- written now and then, not at each use
);
-- Serves: pages of a tenant's tokens.
CREATE INDEX tokens_tenant ON tokens (tenant, id);

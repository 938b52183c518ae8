-- Whose is it? Everything is seen by its tenant alone; what was there before belongs to the default one.
ALTER TABLE models ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default' CHECK (length(tenant) BETWEEN 1 AND 31);
ALTER TABLE datasets ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default' CHECK (length(tenant) BETWEEN 1 AND 31);
ALTER TABLE jobs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default' CHECK (length(tenant) BETWEEN 1 AND 31);
ALTER TABLE events ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default' CHECK (length(tenant) BETWEEN 1 AND 31);
ALTER TABLE blobs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default' CHECK (length(tenant) BETWEEN 1 AND 31);
-- Serve: pages of what a tenant has; how many of its jobs are in a state.
CREATE INDEX models_tenant ON models (tenant, id);
CREATE INDEX datasets_tenant ON datasets (tenant, id);
CREATE INDEX jobs_tenant ON jobs (tenant, id);
CREATE INDEX jobs_tenant_state ON jobs (tenant, state, id);
DROP INDEX jobs_by_finished;
DROP INDEX jobs_by_metric;
CREATE INDEX jobs_by_finished ON jobs (tenant, (COALESCE(finished_ms, 0)), id);
CREATE INDEX jobs_by_metric ON jobs (tenant, (COALESCE(best_metric, -1e300)), id);
CREATE INDEX events_tenant ON events (tenant, position);
-- Serves: how many bytes does a tenant store?
CREATE INDEX blobs_tenant ON blobs (tenant, bytes);
-- Serves: which tenants have queued jobs, and which is the next of each? (No other index has this expression, so none can be taken in its place.)
DROP INDEX jobs_queue;
CREATE INDEX jobs_queue ON jobs ((CAST(CASE WHEN state = 'queued' THEN tenant END AS TEXT)), priority DESC, id);
-- When a tenant had its last turn in the queue: a number that grows with each claim.
CREATE TABLE turns (
    tenant TEXT NOT NULL PRIMARY KEY,
    served BIGINT NOT NULL
);
-- Idempotency keys are each tenant's own.
ALTER TABLE answers RENAME TO answers_of_all;
CREATE TABLE answers (
    tenant TEXT NOT NULL CHECK (length(tenant) BETWEEN 1 AND 31),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint TEXT NOT NULL, -- SHA-256 of method, address and body
    created_ms BIGINT NOT NULL,
    location TEXT NOT NULL,
    body TEXT NOT NULL, -- JSON
    PRIMARY KEY (tenant, key)
);
INSERT INTO answers (tenant, key, fingerprint, created_ms, location, body)
    SELECT 'default', key, fingerprint, created_ms, location, body FROM answers_of_all;
DROP TABLE answers_of_all;
-- Serves: which are too old?
CREATE INDEX answers_created ON answers (created_ms);

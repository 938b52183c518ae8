-- What one tenant may have in place of what all may: NULL: as all; 0: no limit.
CREATE TABLE limits (
    tenant TEXT NOT NULL PRIMARY KEY CHECK (length(tenant) BETWEEN 1 AND 31),
    storage_mb BIGINT,
    waiting_jobs BIGINT,
    running_jobs BIGINT,
    streams BIGINT,
    requests_per_second BIGINT
);

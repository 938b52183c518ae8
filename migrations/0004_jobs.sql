-- Jobs and the queue. Model and data set may be deleted once the job is finished, so they are named, not referred to; the job keeps its own
-- references to the model's files as they were when it was posted. lease_token grows with each claim, and every write of a worker names it.
CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 24),
    name TEXT NOT NULL CHECK (length(name) <= 127),
    model TEXT NOT NULL,
    dataset TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'paused', 'cancelling', 'succeeded', 'failed', 'cancelled')),
    priority BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    started_ms BIGINT,
    finished_ms BIGINT,
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    crashes BIGINT NOT NULL CHECK (crashes >= 0), -- deaths of the process since the last checkpoint
    lease_token BIGINT NOT NULL CHECK (lease_token >= 0),
    lease_owner TEXT,
    lease_until_ms BIGINT,
    n_iterations BIGINT NOT NULL CHECK (n_iterations >= 0),
    architecture TEXT NOT NULL REFERENCES blobs (id),
    weights TEXT REFERENCES blobs (id),
    checkpoint TEXT REFERENCES blobs (id),
    result_weights TEXT REFERENCES blobs (id),
    conf TEXT NOT NULL, -- JSON, as are the following
    progress TEXT,
    result TEXT,
    error TEXT,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_ms IS NOT NULL)),
    CHECK ((state IN ('running', 'cancelling')) = (lease_owner IS NOT NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until_ms IS NULL)),
    CHECK (lease_owner IS NULL OR started_ms IS NOT NULL),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK (state <> 'succeeded' OR result IS NOT NULL),
    CHECK (finished_ms IS NULL OR checkpoint IS NULL)
);
-- Serves: the next job to claim.
CREATE INDEX jobs_queue ON jobs (priority DESC, id) WHERE state = 'queued';
-- Serves: lists by state, counts.
CREATE INDEX jobs_state ON jobs (state, id);
-- Serve: is an unfinished job using this model, this data set?
CREATE INDEX jobs_model ON jobs (model) WHERE finished_ms IS NULL;
CREATE INDEX jobs_dataset ON jobs (dataset) WHERE finished_ms IS NULL;
-- Serve: does a job still refer to this blob?
CREATE INDEX jobs_architecture ON jobs (architecture);
CREATE INDEX jobs_weights ON jobs (weights) WHERE weights IS NOT NULL;
CREATE INDEX jobs_checkpoint ON jobs (checkpoint) WHERE checkpoint IS NOT NULL;
CREATE INDEX jobs_result_weights ON jobs (result_weights) WHERE result_weights IS NOT NULL;

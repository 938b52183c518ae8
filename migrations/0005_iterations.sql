-- What a job published after each prune/retrain iteration; iteration 0 is the baseline.
CREATE TABLE iterations (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    iteration BIGINT NOT NULL CHECK (iteration >= 0),
    weights TEXT REFERENCES blobs (id),
    record TEXT NOT NULL, -- JSON
    PRIMARY KEY (job, iteration)
);
-- Serves: does an iteration still refer to this blob?
CREATE INDEX iterations_weights ON iterations (weights) WHERE weights IS NOT NULL;

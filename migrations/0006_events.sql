-- What happened to a job, for clients that follow it: seq 1, 2, ... per job, without gaps.
CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL CHECK (seq >= 1),
    created_ms BIGINT NOT NULL,
    type TEXT NOT NULL, -- "state", "baseline", "iteration"
    data TEXT NOT NULL, -- JSON
    PRIMARY KEY (job, seq)
);

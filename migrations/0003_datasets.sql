-- Data sets, and the converted files of their splits: split 0 train, 1 validation, 2 test; part 0 features, 1 labels.
CREATE TABLE datasets (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 24),
    name TEXT NOT NULL CHECK (length(name) <= 127),
    created_ms BIGINT NOT NULL,
    conf TEXT NOT NULL -- JSON
);
CREATE TABLE dataset_parts (
    dataset TEXT NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
    split BIGINT NOT NULL CHECK (split BETWEEN 0 AND 2),
    part BIGINT NOT NULL CHECK (part BETWEEN 0 AND 1),
    blob TEXT NOT NULL UNIQUE REFERENCES blobs (id), -- its index serves: does a data set still refer to this blob?
    info TEXT NOT NULL, -- JSON
    PRIMARY KEY (dataset, split, part)
);

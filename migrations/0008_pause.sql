-- A running job that a client wants paused: it becomes so at its next checkpoint.
ALTER TABLE jobs ADD COLUMN pause_requested BIGINT NOT NULL DEFAULT 0 CHECK (pause_requested IN (0, 1));

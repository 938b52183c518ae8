-- The events of all jobs in one order, for clients that follow all of them: position grows with each event and is never used again.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
ALTER TABLE events ADD COLUMN position BIGINT;
UPDATE events SET position = o.n
    FROM (SELECT job, seq, row_number() OVER (ORDER BY created_ms, job, seq) AS n FROM events) AS o
    WHERE o.job = events.job AND o.seq = events.seq;
INSERT INTO counters (name, value) SELECT 'events', COALESCE(MAX(position), 0) FROM events;
-- Serves: what came after this event, whatever its job?
CREATE UNIQUE INDEX events_position ON events (position);

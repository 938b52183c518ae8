-- The line of tenants, so that a claim looks at one row of an index however many wait: each tenant's turn, how many of its jobs run, which of its queued jobs
-- is next (NULL: none is queued). Whoever moves a job brings its tenant's row up to date in the same transaction (store_line.c).
ALTER TABLE turns ADD COLUMN running BIGINT NOT NULL DEFAULT 0 CHECK (running >= 0);
ALTER TABLE turns ADD COLUMN head TEXT;
INSERT INTO turns (tenant, served) SELECT DISTINCT tenant, 0 FROM jobs WHERE true ON CONFLICT (tenant) DO NOTHING;
UPDATE turns SET running = (SELECT count(*) FROM jobs WHERE tenant = turns.tenant AND state IN ('running', 'cancelling')),
    head = (SELECT id FROM jobs WHERE CAST(CASE WHEN state = 'queued' THEN tenant END AS TEXT) = turns.tenant ORDER BY priority DESC, id LIMIT 1);
CREATE INDEX turns_line ON turns (running, served, head) WHERE head IS NOT NULL;

-- Serves: which finished jobs are older than they are to be kept?
CREATE INDEX jobs_finished ON jobs (finished_ms) WHERE finished_ms IS NOT NULL;

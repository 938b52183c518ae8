-- What jobs are sorted by: the metric of the chosen model on validation, once the job has succeeded (those of earlier versions have none).
ALTER TABLE jobs ADD COLUMN best_metric DOUBLE PRECISION;
-- Serve: pages of jobs in the order in which they ended, by their metric.
CREATE INDEX jobs_by_finished ON jobs ((COALESCE(finished_ms, 0)), id);
CREATE INDEX jobs_by_metric ON jobs ((COALESCE(best_metric, -1e300)), id);

-- What the cost model keeps of a run. Null in runs that it did not learn from, and in those from before this.
ALTER TABLE node_runs ADD COLUMN units DOUBLE;
ALTER TABLE node_runs ADD COLUMN planned_steps BIGINT;
ALTER TABLE node_runs ADD COLUMN cold BOOLEAN;
ALTER TABLE node_runs ADD COLUMN tick DOUBLE;
ALTER TABLE node_runs ADD COLUMN ticks DOUBLE;

-- A start reads the newest runs of each server.
CREATE INDEX node_runs_backend ON node_runs (backend, started_at);

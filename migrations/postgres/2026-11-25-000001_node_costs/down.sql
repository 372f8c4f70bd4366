DROP INDEX node_runs_backend;
ALTER TABLE node_runs DROP COLUMN ticks;
ALTER TABLE node_runs DROP COLUMN tick;
ALTER TABLE node_runs DROP COLUMN cold;
ALTER TABLE node_runs DROP COLUMN planned_steps;
ALTER TABLE node_runs DROP COLUMN units;

ALTER TABLE node_runs DROP COLUMN models;
ALTER TABLE node_runs DROP COLUMN calls;

-- The table jobs stays: it may be the pipeline's own.
DROP TABLE backends;
DROP TABLE node_runs;

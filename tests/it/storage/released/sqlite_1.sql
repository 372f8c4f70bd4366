-- Where the pipeline's own table exists already, it is adopted: columns that it lacks are added before this runs.
-- Moments are texts in UTC with milliseconds, such as 2026-11-23T08:00:00.000Z: in the order of time.
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY,
    job_key TEXT,
    prompt_id TEXT,
    backend TEXT,
    job_type TEXT NOT NULL DEFAULT 'comfyui',
    status TEXT NOT NULL,
    output_path TEXT,
    error_message TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    created_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    relay_made BOOLEAN NOT NULL DEFAULT false
);

CREATE UNIQUE INDEX IF NOT EXISTS jobs_job_key ON jobs (job_key);
CREATE INDEX IF NOT EXISTS jobs_created_at ON jobs (created_at);

CREATE TABLE node_runs (
    id INTEGER PRIMARY KEY,
    job_key TEXT NOT NULL,
    backend TEXT,
    node TEXT NOT NULL,
    class TEXT,
    signature TEXT,
    started_at TEXT NOT NULL,
    seconds DOUBLE NOT NULL,
    steps BIGINT,
    cached BOOLEAN NOT NULL,
    UNIQUE (job_key, node)
);

CREATE INDEX node_runs_started_at ON node_runs (started_at);

CREATE TABLE backends (
    name TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    client_id TEXT NOT NULL
);

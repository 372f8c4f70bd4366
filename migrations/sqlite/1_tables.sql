-- The relay's own tables: `comfy_relay.` stands for the prefix `comfy_relay_`. Times are texts in UTC with
-- milliseconds, such as 2026-11-23T08:00:00.000Z: in the order of time.

-- One row a job.
CREATE TABLE comfy_relay.jobs (
    job_key TEXT PRIMARY KEY NOT NULL,
    prompt_id TEXT,
    backend TEXT,
    status TEXT NOT NULL,
    progress BIGINT NOT NULL,
    estimated_remaining BIGINT,
    -- The message of the job's producer.
    message TEXT,
    output_path TEXT,
    error_message TEXT,
    error_code TEXT,
    -- From which source the relay learned of the end.
    learned_from TEXT,
    -- The number of the job's last state.
    seq BIGINT NOT NULL,
    outputs TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    last_updated TEXT NOT NULL,
    -- Whether the end is still to be written to the pipeline's table.
    mirror_due BOOLEAN NOT NULL,
    -- The id of the row that the relay inserted into the pipeline's table.
    pipeline_id TEXT
);

-- Lists are ranges of these.
CREATE INDEX comfy_relay.jobs_created_at ON comfy_relay.jobs (created_at, job_key);
CREATE INDEX comfy_relay.jobs_status ON comfy_relay.jobs (status, created_at, job_key);
CREATE INDEX comfy_relay.jobs_backend ON comfy_relay.jobs (backend, created_at, job_key);
-- The retention deletes a range of this.
CREATE INDEX comfy_relay.jobs_completed_at ON comfy_relay.jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX comfy_relay.jobs_mirror_due ON comfy_relay.jobs (job_key) WHERE mirror_due;

-- One row for each execution of a node.
CREATE TABLE comfy_relay.node_runs (
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
    -- What the cost model observed. Null in runs that it did not learn from.
    units DOUBLE,
    planned_steps BIGINT,
    cold BOOLEAN,
    tick DOUBLE,
    ticks DOUBLE,
    calls DOUBLE,
    models BIGINT,
    UNIQUE (job_key, node)
);

CREATE INDEX comfy_relay.node_runs_started_at ON comfy_relay.node_runs (started_at);
-- A start reads the newest runs of each backend.
CREATE INDEX comfy_relay.node_runs_backend ON comfy_relay.node_runs (backend, started_at, id);

-- One row a backend: the client id under which the relay submits there.
CREATE TABLE comfy_relay.backends (
    name TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    client_id TEXT NOT NULL
);

-- Which relay follows a backend, and until when (milliseconds since 1970) unless it renews the lease.
CREATE TABLE comfy_relay.leases (
    backend TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    held_until BIGINT NOT NULL
);

-- How far the rows of an earlier release's tables are copied.
CREATE TABLE comfy_relay.imports (
    source TEXT PRIMARY KEY NOT NULL,
    position TEXT NOT NULL,
    is_complete BOOLEAN NOT NULL
);

-- What clients say of their jobs: labels, a JSON object of texts; a group; the name of the workflow that was submitted.
ALTER TABLE comfy_relay.jobs ADD COLUMN labels TEXT;
ALTER TABLE comfy_relay.jobs ADD COLUMN job_group TEXT;
ALTER TABLE comfy_relay.jobs ADD COLUMN workflow TEXT;

CREATE INDEX jobs_labels ON comfy_relay.jobs USING gin (CAST(labels AS jsonb) jsonb_path_ops);
CREATE INDEX jobs_group ON comfy_relay.jobs (job_group, created_at, job_key) WHERE job_group IS NOT NULL;
CREATE INDEX jobs_workflow ON comfy_relay.jobs (workflow, created_at, job_key) WHERE workflow IS NOT NULL;

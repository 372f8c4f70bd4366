-- Lists are ranges of these, in the order of lists. The columns behind that order are other filters: an entry that does not
-- match is passed over without its row.
DROP INDEX IF EXISTS comfy_relay.jobs_status;
DROP INDEX IF EXISTS comfy_relay.jobs_backend;
DROP INDEX IF EXISTS comfy_relay.jobs_group;
DROP INDEX IF EXISTS comfy_relay.jobs_workflow;
-- A search for labels reads a range of the others.
DROP INDEX IF EXISTS comfy_relay.jobs_labels;
CREATE INDEX comfy_relay.jobs_by_status ON comfy_relay.jobs (status, created_at, job_key, backend, workflow);
CREATE INDEX comfy_relay.jobs_by_backend ON comfy_relay.jobs (backend, created_at, job_key, status);
CREATE INDEX comfy_relay.jobs_by_workflow ON comfy_relay.jobs (workflow, created_at, job_key, status, backend)
    WHERE workflow IS NOT NULL;
CREATE INDEX comfy_relay.jobs_by_group ON comfy_relay.jobs (job_group, created_at, job_key, status, backend, workflow)
    WHERE job_group IS NOT NULL;

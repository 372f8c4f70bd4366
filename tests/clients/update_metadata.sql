-- What another service writes into the row of a job, while the relay writes its progress into the same column.
-- Neither may undo the other: both add keys to the object. The job id is the row's id, as in the old system.
--   psql -v job_id=12 -f update_metadata.sql
UPDATE jobs
SET metadata = COALESCE(metadata, '{}'::jsonb) || '{"reviewed_by": "mika", "estimated_remaining": 30}'::jsonb
WHERE id = :job_id;

SELECT status, metadata->>'progress' AS progress, metadata->>'last_updated' AS last_updated,
       metadata->>'reviewed_by' AS reviewed_by
FROM jobs
WHERE id = :job_id;

-- The relay that would take this backend over from the one that follows it, because it follows fewer.
ALTER TABLE comfy_relay.leases ADD COLUMN wanted_by TEXT;
-- Until when, in milliseconds since 1970.
ALTER TABLE comfy_relay.leases ADD COLUMN wanted_until BIGINT;
-- Open jobs that a relay has registered for the one that follows their backend.
CREATE INDEX jobs_open_owner ON comfy_relay.jobs (backend, owner) WHERE status IN ('queued', 'processing');
-- How this backend is, as the relay says that follows it: a JSON object, for the other relays.
ALTER TABLE comfy_relay.leases ADD COLUMN report TEXT;
-- How many connections the subscribers of this relay have, and how many jobs they follow.
ALTER TABLE comfy_relay.relays ADD COLUMN connections BIGINT NOT NULL DEFAULT 0;
ALTER TABLE comfy_relay.relays ADD COLUMN followed_jobs BIGINT NOT NULL DEFAULT 0;

-- How busy a backend is, prompts of other clients included, as the relay that follows it last saw it.
ALTER TABLE comfy_relay.leases ADD COLUMN prompts BIGINT NOT NULL DEFAULT 0;
-- When it is done with them, in milliseconds since 1970, if that is known.
ALTER TABLE comfy_relay.leases ADD COLUMN free_at BIGINT;

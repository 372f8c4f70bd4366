-- The relay that would take this backend over from the one that follows it, because it follows fewer.
ALTER TABLE comfy_relay.leases ADD COLUMN wanted_by TEXT;
-- Until when, in milliseconds since 1970.
ALTER TABLE comfy_relay.leases ADD COLUMN wanted_until BIGINT;

-- Which relay writes an open job, and how often another one took it over.
ALTER TABLE comfy_relay.jobs ADD COLUMN owner TEXT;
ALTER TABLE comfy_relay.jobs ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;

-- The relays that run, each until a time (milliseconds since 1970) unless it renews that.
CREATE TABLE comfy_relay.relays (
    owner TEXT PRIMARY KEY NOT NULL,
    held_until BIGINT NOT NULL
);

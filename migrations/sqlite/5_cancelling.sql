-- Whether its server was asked to stop it, and has not yet. Null where it was not, and in rows from before this was stored.
ALTER TABLE comfy_relay.jobs ADD COLUMN cancelling BOOLEAN;

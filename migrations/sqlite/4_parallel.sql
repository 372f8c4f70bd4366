-- Whether another node began during a run. Null in runs from before this was stored.
ALTER TABLE comfy_relay.node_runs ADD COLUMN parallel BOOLEAN;

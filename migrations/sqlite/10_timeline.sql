-- What the timeline of a job shows of a run. Null in runs from before this was stored.
-- The node of the graph that it counts as; null if it is that node itself.
ALTER TABLE comfy_relay.node_runs ADD COLUMN display TEXT;
-- The title that the author of the graph gave the node.
ALTER TABLE comfy_relay.node_runs ADD COLUMN title TEXT;
-- finished, failed, interrupted, …
ALTER TABLE comfy_relay.node_runs ADD COLUMN state TEXT;

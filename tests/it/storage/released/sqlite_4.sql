-- What nodes of unknown size are predicted from: the calls of the model, and which models they are. Null in runs from
-- before this; their units may be those of a size that was not known.
ALTER TABLE node_runs ADD COLUMN calls DOUBLE;
ALTER TABLE node_runs ADD COLUMN models BIGINT;

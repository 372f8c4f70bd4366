-- Pictures that workflows load, until the servers that run the jobs have them.
CREATE TABLE comfy_relay.input_files (
    -- A digest of the content, and how the name of such a file ends.
    name TEXT PRIMARY KEY NOT NULL,
    -- Of the content, in bytes.
    size BIGINT NOT NULL,
    -- When it was sent or used last: milliseconds since 1970.
    used_at BIGINT NOT NULL,
    -- Last: SQLite reads a row up to the last column that a statement needs, and this one can have megabytes.
    content BLOB NOT NULL
);
CREATE INDEX comfy_relay.input_files_used_at ON comfy_relay.input_files (used_at);

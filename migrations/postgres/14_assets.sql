-- Files that clients have uploaded for graphs to load.
CREATE TABLE comfy_relay.assets (
    id TEXT PRIMARY KEY NOT NULL,
    -- `blake3:` and hexadecimal digits.
    hash TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    -- As the client calls it.
    file_path TEXT NOT NULL,
    -- In the input folders of the ComfyUI servers.
    filename TEXT NOT NULL,
    -- Milliseconds since 1970.
    created_at BIGINT NOT NULL
);
CREATE INDEX assets_hash ON comfy_relay.assets (hash, created_at);

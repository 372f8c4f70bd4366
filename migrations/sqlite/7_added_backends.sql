-- The ComfyUI servers that operators have added while relays ran.
CREATE TABLE comfy_relay.added_backends (
    name TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    -- A JSON object of texts.
    labels TEXT NOT NULL
);

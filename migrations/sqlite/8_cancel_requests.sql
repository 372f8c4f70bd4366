-- Which jobs are to be cancelled, by requests to a relay that does not follow their backends.
CREATE TABLE comfy_relay.cancel_requests (
    job_key TEXT PRIMARY KEY NOT NULL,
    -- Milliseconds since 1970.
    asked_at BIGINT NOT NULL
);

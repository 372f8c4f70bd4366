-- What is to be handed in to ComfyUI for a job: it waits ('waiting'), or a backend has it or is claimed for it ('handed_in').
CREATE TABLE comfy_relay.submissions (
    job_key TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL,
    -- The order of arrival: microseconds since 1970.
    place BIGINT NOT NULL,
    -- Higher ones come first.
    priority BIGINT NOT NULL,
    -- For whom it is, where waiting jobs are shared out fairly.
    share TEXT,
    backend TEXT,
    prompt_id TEXT NOT NULL,
    -- How often it was handed in or waits to be, and how often it may be again after it is lost.
    attempt BIGINT NOT NULL,
    retries BIGINT NOT NULL,
    -- The attempts that were lost: a JSON list.
    lost TEXT NOT NULL,
    -- Of the body of the request, so that one that is repeated is known again.
    digest TEXT,
    -- The job that it repeats.
    retry_of TEXT,
    -- The graph and everything that is passed on with it: JSON, compressed (RFC 1950).
    request BYTEA NOT NULL,
    -- Keys of partner nodes, sealed; gone once they were handed in.
    secrets BYTEA
);
CREATE INDEX submissions_waiting ON comfy_relay.submissions (priority, place) WHERE state = 'waiting';
CREATE INDEX submissions_retry_of ON comfy_relay.submissions (retry_of) WHERE retry_of IS NOT NULL;

-- What operators have stopped: 'queue', or a backend as 'backend:NAME'. It is 'paused' or 'draining'.
CREATE TABLE comfy_relay.operations (
    subject TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL
);

-- Which jobs a request with an Idempotency-Key makes or has made.
CREATE TABLE comfy_relay.requests (
    -- A digest of the key and of whom it belongs to.
    request_key TEXT PRIMARY KEY NOT NULL,
    -- Of its body.
    digest TEXT NOT NULL,
    -- Their ids and their group: JSON. They are chosen before anything is made.
    made TEXT NOT NULL,
    -- The relay that makes them.
    owner TEXT NOT NULL,
    -- Milliseconds since 1970.
    created_at BIGINT NOT NULL
);
CREATE INDEX requests_created_at ON comfy_relay.requests (created_at);

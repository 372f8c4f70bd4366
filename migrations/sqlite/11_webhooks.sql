-- What is to be sent to webhooks, and what was: written in the transaction that writes the state of which it tells.
CREATE TABLE comfy_relay.webhook_deliveries (
    -- The header `webhook-id`, the same in each attempt.
    id TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    -- The type of the event.
    event TEXT NOT NULL,
    -- The job that it is about, if it is about one.
    job_key TEXT,
    -- The body, as it is signed.
    payload TEXT NOT NULL,
    -- Times are in milliseconds since 1970.
    created_at BIGINT NOT NULL,
    -- 'pending', 'delivered', 'failed' or 'gone'.
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- When it is sent, or sent again.
    due_at BIGINT NOT NULL,
    -- The relay that sends it, and until when no other one does.
    claimed_by TEXT,
    claimed_until BIGINT,
    -- What the last attempt was answered, and why it failed.
    last_status BIGINT,
    last_error TEXT,
    ended_at BIGINT
);
CREATE INDEX comfy_relay.webhook_deliveries_due ON comfy_relay.webhook_deliveries (due_at) WHERE state = 'pending';
CREATE INDEX comfy_relay.webhook_deliveries_job ON comfy_relay.webhook_deliveries (job_key) WHERE job_key IS NOT NULL;
CREATE INDEX comfy_relay.webhook_deliveries_created ON comfy_relay.webhook_deliveries (created_at, id);
CREATE INDEX comfy_relay.webhook_deliveries_ended ON comfy_relay.webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;

-- The webhooks of single jobs: one row for each event that is to be sent.
CREATE TABLE comfy_relay.job_webhooks (
    job_key TEXT NOT NULL,
    -- The type of the event; that of progress with its percentage behind a colon.
    event TEXT NOT NULL,
    url TEXT NOT NULL,
    PRIMARY KEY (job_key, event)
);

-- The targets that have answered that they are gone: nothing is sent to them.
CREATE TABLE comfy_relay.gone_webhooks (
    url TEXT PRIMARY KEY NOT NULL,
    gone_at BIGINT NOT NULL
);

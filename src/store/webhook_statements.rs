//! The statements that add and claim what is to be sent to webhooks.
//!
//! SQL text, because diesel cannot say it: rows come as JSON, and on PostgreSQL a claim passes over rows that another relay is
//! just claiming.

use super::names::Names;

/// The statements that diesel cannot say.
#[derive(Debug)]
pub(super) struct WebhookStatements {
    /// Adds deliveries. Its parameter: the rows, as JSON.
    pub(super) insert: String,
    /// Claims deliveries that are due. Its parameters: the relay, how long in milliseconds, the targets that are busy as a
    /// JSON list, how many.
    pub(super) claim: String,
}

const POSTGRES_ROWS: &str = "jsonb_to_recordset(CAST($1 AS jsonb)) AS r(id text, url text, event text, topic text, \
    job_key text, payload text)";

const SQLITE_ROWS: &str = "(SELECT value->>'id' AS id, value->>'url' AS url, value->>'event' AS event, \
    value->>'topic' AS topic, value->>'job_key' AS job_key, value->>'payload' AS payload FROM jsonb_each($1)) AS r";

/// What was added before stays as it is, and what is for a target that is gone is not added.
const INSERT: &str = "INSERT INTO comfy_relay.webhook_deliveries \
    (id, url, event, job_key, payload, created_at, state, attempts, due_at) \
    SELECT r.id, COALESCE(r.url, w.url), r.event, r.job_key, r.payload, {now}, 'pending', 0, {now} FROM {rows} \
    LEFT JOIN comfy_relay.job_webhooks AS w ON r.url IS NULL AND w.job_key = r.job_key AND w.event = r.topic \
    WHERE COALESCE(r.url, w.url) IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM comfy_relay.gone_webhooks AS g WHERE g.url = COALESCE(r.url, w.url)) \
    ON CONFLICT (id) DO NOTHING";

/// PostgreSQL passes over rows that another relay is just claiming; SQLite has one writer at a time.
const CLAIM: &str = "UPDATE comfy_relay.webhook_deliveries SET claimed_by = $1, claimed_until = {now} + $2 \
    WHERE id IN (SELECT id FROM comfy_relay.webhook_deliveries WHERE state = 'pending' \
    AND due_at <= {now} AND (claimed_until IS NULL OR claimed_until < {now}) AND url NOT IN ({busy}) \
    ORDER BY due_at LIMIT $4 {lock}) RETURNING id, url, event, payload, {now} - created_at AS age, attempts";

impl WebhookStatements {
    pub(super) fn new(names: &Names) -> Self {
        let (rows, busy, lock) = match names {
            Names::Postgres(_) => (
                POSTGRES_ROWS,
                "SELECT jsonb_array_elements_text(CAST($3 AS jsonb))",
                "FOR UPDATE SKIP LOCKED",
            ),
            Names::Sqlite => (SQLITE_ROWS, "SELECT value FROM json_each($3)", ""),
        };
        let insert = INSERT.replace("{rows}", rows).replace("{now}", names.now());
        let claim = CLAIM.replace("{busy}", busy).replace("{lock}", lock);
        let claim = names.text(&claim.replace("{now}", names.now()));
        Self {
            insert: names.text(&insert),
            claim: match names {
                Names::Postgres(_) => claim,
                // A number with a dollar is a name there.
                Names::Sqlite => claim.replace('$', "?"),
            },
        }
    }
}

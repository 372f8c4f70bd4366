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
    /// Claims the delivery that has been due the longest. Its parameters: the relay, how long in milliseconds, how the targets
    /// begin that are busy as a JSON list.
    pub(super) claim: String,
    /// Deletes the webhooks of jobs that are not made. Its parameter: their ids as a JSON list.
    pub(super) delete_of_jobs: String,
    /// Adds the webhook of jobs that are not made. Its parameters: their ids and the events as JSON lists, the target.
    pub(super) insert_for_jobs: String,
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

/// A job that is made keeps its webhook, whatever another relay is asked to make under its id; but not one that the relay has
/// found and that nobody has registered.
const NOT_MADE: &str = "NOT EXISTS (SELECT 1 FROM comfy_relay.jobs AS j WHERE j.job_key = ids.value \
        AND (j.labels IS NULL OR j.labels <> '{\"via\":\"discovery\"}')) \
    AND NOT EXISTS (SELECT 1 FROM comfy_relay.submissions AS s WHERE s.job_key = ids.value)";

/// PostgreSQL passes over rows that another relay is just claiming; SQLite has one writer at a time.
const CLAIM: &str = "UPDATE comfy_relay.webhook_deliveries SET claimed_by = $1, claimed_until = {now} + $2 \
    WHERE id IN (SELECT id FROM comfy_relay.webhook_deliveries WHERE state = 'pending' \
    AND due_at <= {now} AND (claimed_until IS NULL OR claimed_until < {now}) AND NOT EXISTS ({busy}) \
    ORDER BY due_at LIMIT 1 {lock}) RETURNING id, url, event, payload, {now} - created_at AS age, attempts";

impl WebhookStatements {
    pub(super) fn new(names: &Names) -> Self {
        let (rows, busy, lock) = match names {
            Names::Postgres(_) => (
                POSTGRES_ROWS,
                "SELECT 1 FROM jsonb_array_elements_text(CAST($3 AS jsonb)) AS b(origin) \
                    WHERE substr(url, 1, length(b.origin)) = b.origin",
                "FOR UPDATE SKIP LOCKED",
            ),
            Names::Sqlite => (
                SQLITE_ROWS,
                "SELECT 1 FROM json_each($3) AS b WHERE substr(url, 1, length(b.value)) = b.value",
                "",
            ),
        };
        let insert = INSERT.replace("{rows}", rows).replace("{now}", names.now());
        let claim = CLAIM.replace("{busy}", busy).replace("{lock}", lock);
        let claim = claim.replace("{now}", names.now());
        let list = |number: u8| match names {
            Names::Postgres(_) => format!("jsonb_array_elements_text(CAST(${number} AS jsonb))"),
            Names::Sqlite => format!("json_each(${number})"),
        };
        let delete_of_jobs = format!(
            "DELETE FROM comfy_relay.job_webhooks WHERE job_key IN (SELECT ids.value FROM {} AS ids(value) WHERE {NOT_MADE})",
            list(1)
        );
        let insert_for_jobs = format!(
            "INSERT INTO comfy_relay.job_webhooks (job_key, event, url) SELECT ids.value, events.value, $3 \
             FROM {} AS ids(value), {} AS events(value) WHERE {NOT_MADE} ON CONFLICT DO NOTHING",
            list(1),
            list(2)
        );
        let text = |text: &str| match names {
            Names::Postgres(_) => names.text(text),
            // A number with a dollar is a name there, and the columns of such a table have names already.
            Names::Sqlite => names.text(text).replace('$', "?").replace("(value)", ""),
        };
        Self {
            insert: names.text(&insert),
            claim: text(&claim),
            delete_of_jobs: text(&delete_of_jobs),
            insert_for_jobs: text(&insert_for_jobs),
        }
    }
}

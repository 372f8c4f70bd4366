//! With which codes a submission can fail.

use crate::server::contract::endpoint::Endpoint;

/// A workflow is read, and parameters are set in it.
pub(in crate::server::api) fn workflow_failures(endpoint: Endpoint) -> Endpoint {
    let wrong = [
        "bad_workflow_name",
        "editor_format",
        "not_api_format",
        "bad_parameter",
    ];
    endpoint
        .fails(400, &wrong)
        .fails(404, &["workflow_not_found"])
        .fails(500, &["workflow_unreadable", "bad_header"])
}

/// A job waits for a server, and is handed in.
pub(in crate::server::api) fn queue_failures(endpoint: Endpoint) -> Endpoint {
    let wrong = [
        "bad_job_id",
        "bad_backend",
        "bad_priority",
        "bad_retries",
        "bad_idempotency_key",
        "backend_unknown",
        "input_not_found",
        "label_unknown",
        "too_many_inputs",
        "workflow_rejected",
    ];
    endpoint
        .fails(400, &wrong)
        .fails(409, &["job_exists", "idempotency_conflict"])
        .fails(422, &["row_refused", "no_backend_can_run"])
        .fails(429, &["queue_full"])
        .fails(503, &["request_under_way", "paused", "going_away"])
        .asks_backends()
        .needs_database()
}

/// A workflow is submitted with what goes with it.
pub(in crate::server::api) fn submission_failures(endpoint: Endpoint) -> Endpoint {
    let wrong = [
        "bad_workflow",
        "bad_labels",
        "bad_group",
        "bad_extra_data",
        "bad_preview_method",
        "bad_target",
        "bad_front",
        "bad_number",
        "bad_webhook",
    ];
    let endpoint = endpoint
        .fails(400, &wrong)
        .fails(403, &["webhooks_off", "webhook_not_allowed"]);
    queue_failures(workflow_failures(endpoint))
}

//! The answers to `GET /api/jobs?status=in_progress,pending` and `GET /api/jobs/{id}`, of servers since 0.5.1.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;

use super::{Queue, QueueEntry, read_entry};
use crate::python_json;

#[derive(Deserialize)]
struct JobList<'a> {
    #[serde(borrow)]
    jobs: Vec<ListedJob<'a>>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    total: usize,
    has_more: bool,
}

#[derive(Deserialize)]
struct ListedJob<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    /// The number in the queue.
    priority: f64,
    /// Milliseconds since 1970.
    create_time: Option<i64>,
}

/// One prompt with its graph.
#[derive(Deserialize)]
struct JobWithGraph {
    id: Box<RawValue>,
    priority: Box<RawValue>,
    workflow: PromptWorkflow,
}

#[derive(Deserialize)]
struct PromptWorkflow {
    prompt: Box<RawValue>,
    extra_data: Box<RawValue>,
}

impl Queue {
    /// Reads a list of the jobs that run and wait, which has no graphs. An answer of another shape is an error. `None` if
    /// it holds only a part of them: no prompt must look gone.
    pub(in crate::comfy) fn parse_job_list(body: &Bytes) -> serde_json::Result<Option<Self>> {
        let list: JobList<'_> = serde_json::from_slice(body)?;
        if list.pagination.has_more || list.pagination.total > list.jobs.len() {
            return Ok(None);
        }
        let (mut running, mut pending) = (Vec::new(), Vec::with_capacity(list.jobs.len()));
        for job in list.jobs {
            let list = match job.status.as_ref() {
                "in_progress" => &mut running,
                "pending" => &mut pending,
                other => {
                    let why = format!("it lists a job that is {other:?}");
                    return Err(serde_json::Error::custom(why));
                }
            };
            list.push(QueueEntry {
                number: job.priority,
                prompt_id: job.id.into(),
                client_id: None,
                submitted_at: job
                    .create_time
                    .and_then(|at| Timestamp::from_millisecond(at).ok()),
                item: Bytes::new(),
            });
        }
        Ok(Some(Self::new(running, pending, body, false)))
    }
}

impl QueueEntry {
    /// Reads one prompt from the answer to `GET /api/jobs/{id}`; `None` if that shows no graph, as before 0.34. The outputs
    /// that are executed are not in it.
    pub(in crate::comfy) fn parse_job(body: &[u8]) -> Option<Self> {
        let job: JobWithGraph = python_json::read(body).ok()?;
        let PromptWorkflow { prompt, extra_data } = job.workflow;
        let parts = [job.priority, job.id, prompt, extra_data];
        let parts = parts.map(|part| part.get().to_owned()).join(",");
        read_entry(format!("[{parts}]").into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::comfy::QueuePosition;

    fn list(jobs: Value, has_more: bool) -> serde_json::Result<Option<Queue>> {
        list_of(jobs, 1, has_more)
    }

    fn list_of(jobs: Value, total: usize, has_more: bool) -> serde_json::Result<Option<Queue>> {
        let body = json!({"jobs": jobs, "pagination": {"offset": 0, "limit": null, "total": total, "has_more": has_more}});
        Queue::parse_job_list(&body.to_string().into())
    }

    #[test]
    fn jobs_are_in_the_order_in_which_they_will_run() {
        let jobs = json!([
            {"id": "c", "status": "pending", "priority": 3, "create_time": 1_795_886_177_616_i64, "outputs_count": 0},
            {"id": "front", "status": "pending", "priority": -2},
            {"id": "b", "status": "pending", "priority": 2, "create_time": null},
            {"id": "r", "status": "in_progress", "priority": 0},
        ]);
        let queue = list(jobs, false).unwrap().unwrap();
        assert!(!queue.has_graphs());
        assert_eq!(queue.position("r"), Some(QueuePosition::Running));
        for (ahead, id) in ["front", "b", "c"].iter().enumerate() {
            let ahead = ahead + 1;
            assert_eq!(queue.position(id), Some(QueuePosition::Pending { ahead }));
        }
        let entry = queue.entry("c").unwrap();
        assert_eq!(
            entry.submitted_at.unwrap().as_millisecond(),
            1_795_886_177_616
        );
        assert_eq!((entry.graph(), &entry.client_id), (None, &None));
    }

    #[test]
    fn a_part_of_the_list_is_not_the_queue() {
        let jobs = json!([{"id": "r", "status": "in_progress", "priority": 0}]);
        assert!(list(jobs.clone(), true).unwrap().is_none());
        assert!(list_of(jobs, 2, false).unwrap().is_none());
    }

    #[test]
    fn what_is_not_a_list_of_open_jobs_is_an_error() {
        for jobs in [
            json!([{"id": "r", "status": "completed", "priority": 0}]),
            json!([{"id": "r", "status": "in_progress"}]),
            json!([{"id": 5, "status": "pending", "priority": 0}]),
            json!({}),
        ] {
            assert!(list(jobs.clone(), false).is_err(), "{jobs}");
        }
        for body in [
            "{}",
            "[]",
            r#"{"jobs": []}"#,
            r#"{"error": "Invalid status"}"#,
        ] {
            assert!(
                Queue::parse_job_list(&Bytes::from_static(body.as_bytes())).is_err(),
                "{body}"
            );
        }
    }

    #[test]
    fn one_job_can_show_its_graph() {
        let node = r#"{"9": {"class_type": "SaveImage", "inputs": {}, "is_changed": [NaN]}}"#;
        let shown = format!(
            r#"{{"id": "w", "status": "pending", "priority": -1.5,
                "workflow": {{"prompt": {node}, "extra_data": {{"client_id": "c", "create_time": 1000}}}}}}"#
        );
        let entry = QueueEntry::parse_job(shown.as_bytes()).unwrap();
        assert_eq!((entry.number, entry.prompt_id.as_ref()), (-1.5, "w"));
        assert_eq!(entry.client_id.as_deref(), Some("c"));
        assert!(entry.graph().is_some());
        let without = json!({"id": "w", "status": "pending", "priority": 0});
        assert_eq!(QueueEntry::parse_job(without.to_string().as_bytes()), None);
    }
}

//! ComfyUI's list of jobs, of all servers and of the relay's own queue.

use std::collections::HashSet;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};

use super::caller::{PromptCaller, is_from_comfy};
use super::known_prompt::KnownPrompt;
use super::unlisted::UnlistedJob;
use crate::job::JobId;
use crate::relay::{Relay, RelayError};

/// A part of the list.
#[derive(Debug, Serialize)]
pub struct ComfyJobs {
    jobs: Vec<Value>,
    pagination: ComfyJobsPart,
}

#[derive(Debug, Serialize)]
struct ComfyJobsPart {
    offset: usize,
    limit: Option<usize>,
    total: usize,
    has_more: bool,
}

/// What of the list is asked for.
#[derive(Debug, Default)]
pub struct JobListQuery {
    /// The filters, as servers read them.
    pub filters: Vec<(String, String)>,
    /// The words of the statuses; none for all.
    pub statuses: Vec<String>,
    /// How many jobs before the first.
    pub offset: usize,
    /// How many jobs; `None` for all.
    pub limit: Option<usize>,
    /// Whether they are in the order of how long they have run, not of when they came.
    pub is_by_duration: bool,
    /// Whether the oldest or shortest one comes first.
    pub is_ascending: bool,
}

impl JobListQuery {
    /// The query for a server: its part of the list can be anywhere up to the end of what is asked for.
    fn for_servers(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.filters);
        if let Some(limit) = self.limit {
            let end = self.offset.saturating_add(limit);
            query.append_pair("limit", &end.to_string());
        }
        query.finish()
    }

    /// Whether only the jobs of one workflow of the editor are asked for.
    fn is_of_workflow(&self) -> bool {
        let mut filters = self.filters.iter();
        filters.any(|(name, id)| name == "workflow_id" && !id.is_empty())
    }

    /// Brings the jobs of several servers into the order of each of their lists.
    fn sort(&self, jobs: &mut [Value]) {
        let key = |job: &Value| {
            if self.is_by_duration {
                duration(job)
            } else {
                time(job, "create_time").unwrap_or_default()
            }
        };
        if self.is_ascending {
            jobs.sort_by(|a, b| key(a).total_cmp(&key(b)));
        } else {
            jobs.sort_by(|a, b| key(b).total_cmp(&key(a)));
        }
    }
}

/// How long a job has run, in milliseconds; 0 for one that has not ended.
fn duration(job: &Value) -> f64 {
    let began_at = time(job, "execution_start_time");
    let times = began_at.zip(time(job, "execution_end_time"));
    times.map_or(0.0, |(began_at, ended_at)| ended_at - began_at)
}

/// A time of a job, in milliseconds since 1970.
fn time(job: &Value, name: &str) -> Option<f64> {
    job.get(name)?.as_f64()
}

impl Relay {
    /// A part of the jobs of all servers and of those that wait here. `None` if no server has such a list.
    ///
    /// # Errors
    ///
    /// If no server answers, or the database does not.
    pub async fn comfy_jobs(&self, query: &JobListQuery) -> Result<Option<ComfyJobs>, RelayError> {
        let mut unlisted = self.unlisted_jobs();
        if query.is_of_workflow() {
            // The editor's id of a workflow is in the graphs, which are not read here.
            unlisted.clear();
        }
        let answers = self
            .ask_all("/api/jobs", Some(&query.for_servers()))
            .await?;
        if answers.is_empty() {
            return Ok(None);
        }
        let (mut jobs, mut total) = (Vec::new(), 0);
        for mut answer in answers {
            let count = answer.json.pointer("/pagination/total");
            let count = count
                .and_then(Value::as_u64)
                .and_then(|it| usize::try_from(it).ok());
            let jobs_there = answer.json.get_mut("jobs").map(Value::take);
            let Some(Value::Array(listed)) = jobs_there else {
                continue;
            };
            total += count.unwrap_or_default().max(listed.len());
            for mut job in listed {
                let server_id = job["id"].as_str().unwrap_or_default().to_owned();
                self.rename_job(answer.backend.index, &mut job);
                let prompt_id = job["id"].as_str().unwrap_or_default();
                if self.is_given_up(prompt_id, &answer.backend, &server_id) {
                    total -= 1;
                } else {
                    jobs.push(job);
                }
            }
        }
        let listed: HashSet<&str> = jobs.iter().filter_map(|job| job["id"].as_str()).collect();
        unlisted.retain(|job| {
            let word = status_word(job);
            let is_asked = query.statuses.is_empty() || query.statuses.iter().any(|it| it == word);
            is_asked && !listed.contains(job.id.as_str())
        });
        total += unlisted.len();
        jobs.extend(unlisted.iter().map(as_listed));
        query.sort(&mut jobs);
        let count = query.limit.unwrap_or(jobs.len());
        let jobs: Vec<Value> = jobs.into_iter().skip(query.offset).take(count).collect();
        let pagination = ComfyJobsPart {
            offset: query.offset,
            limit: query.limit,
            total,
            has_more: query.offset.saturating_add(jobs.len()) < total,
        };
        Ok(Some(ComfyJobs { jobs, pagination }))
    }

    /// One job of ComfyUI; `None` if no server has it, and it does not wait here.
    pub async fn comfy_job(&self, prompt_id: &str) -> Result<Option<Value>, RelayError> {
        let unlisted = self.unlisted_jobs();
        let known = self.stored_prompt(prompt_id).await.ok().flatten();
        let server_id = KnownPrompt::id_at_server(known.as_ref(), prompt_id);
        let encoded = utf8_percent_encode(server_id, NON_ALPHANUMERIC);
        let answers = self.ask_all(&format!("/api/jobs/{encoded}"), None).await?;
        let mut found = answers
            .into_iter()
            .filter(|answer| answer.json["id"] == server_id);
        let found = found.next().map(|mut answer| {
            let extra_data = answer.json.pointer_mut("/workflow/extra_data");
            if let Some(extra_data) = extra_data.and_then(Value::as_object_mut) {
                PromptCaller::take_from(extra_data, answer.backend.comfy.client_id());
            }
            let text = answer.json.to_string();
            // Also where its messages name it.
            let renamed = text.replace(server_id, prompt_id);
            serde_json::from_str(&renamed).unwrap_or(answer.json)
        });
        let is_asked = |job: &&UnlistedJob| known.as_ref().is_some_and(|known| known.job == job.id);
        Ok(found.or_else(|| unlisted.iter().find(is_asked).map(as_listed)))
    }

    fn rename_job(&self, backend: usize, job: &mut Value) {
        let backend = &self.0.tracker.backends[backend];
        let registry = self.0.tracker.registry();
        let Some(server_id) = job["id"].as_str() else {
            return;
        };
        let of_prompt = registry.of_prompt(backend, server_id).iter();
        let mut named = of_prompt.filter(|id| {
            let entry = registry.get(id);
            entry.is_some_and(|entry| is_from_comfy(entry.job.tags()))
        });
        if let Some(known) = named.next().map(JobId::to_string) {
            job["id"] = known.into();
        }
    }
}

/// A job that no server lists, as ComfyUI would list it.
fn as_listed(job: &UnlistedJob) -> Value {
    let created_at = job.created_at.as_millisecond();
    json!({
        "id": job.id,
        "status": status_word(job),
        // In the order in which they came.
        "priority": created_at,
        "create_time": created_at,
    })
}

fn status_word(job: &UnlistedJob) -> &'static str {
    if job.has_begun {
        "in_progress"
    } else {
        "pending"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(query: &JobListQuery) -> Vec<u64> {
        let mut jobs = vec![
            json!({"id": 1, "create_time": 3, "execution_start_time": 5, "execution_end_time": 6}),
            json!({"id": 2, "create_time": 1, "execution_start_time": 2, "execution_end_time": 9}),
            json!({"id": 3, "create_time": 2, "execution_start_time": 4, "execution_end_time": null}),
        ];
        query.sort(&mut jobs);
        jobs.iter().filter_map(|job| job["id"].as_u64()).collect()
    }

    #[test]
    fn jobs_are_in_the_order_that_is_asked_for() {
        for (is_by_duration, is_ascending, expected) in [
            (false, false, [1, 3, 2]),
            (false, true, [2, 3, 1]),
            (true, false, [2, 1, 3]),
            (true, true, [3, 1, 2]),
        ] {
            let query = JobListQuery {
                is_by_duration,
                is_ascending,
                ..JobListQuery::default()
            };
            assert_eq!(sorted(&query), expected, "{query:?}");
        }
    }

    #[test]
    fn servers_are_asked_for_everything_up_to_the_end() {
        let query = JobListQuery {
            filters: vec![("sort_order".to_owned(), "asc".to_owned())],
            offset: usize::MAX,
            limit: Some(2),
            ..JobListQuery::default()
        };
        let expected = format!("sort_order=asc&limit={}", usize::MAX);
        assert_eq!(query.for_servers(), expected);
    }
}

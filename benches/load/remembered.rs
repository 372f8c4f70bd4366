//! What stays in memory of jobs that have ended.

use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Map, Value, json};

use crate::figures::median;
use crate::options::LoadOptions;
use crate::process::Server;
use crate::scripted_comfy::ScriptedComfy;

/// How many jobs end, unless `--subscribers` says so.
const JOBS: usize = 10_000;

/// The nodes of each job's graph, all of which run.
const NODES: usize = 100;

/// How many jobs run at a time.
const AT_ONCE: usize = 50;

/// Jobs before those that are measured: more than the relay keeps the details of.
const FIRST_JOBS: usize = 400;

/// How long after the last end memory is measured: details are dropped by then.
const SETTLING: Duration = Duration::from_secs(15);

/// Prints by how much the relay grows for each job that has ended.
pub(crate) fn measure(options: &LoadOptions) -> anyhow::Result<bool> {
    let jobs = options.subscribers.map_or(JOBS, |count| count as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut grown = Vec::new();
    for _ in 0..options.rounds {
        grown.push(runtime.block_on(growth(jobs, options))?);
    }
    println!(
        "remembered {jobs}: {:.0} bytes for each job of {NODES} nodes that has ended",
        median(grown).unwrap_or_default()
    );
    Ok(true)
}

/// Bytes for each job.
async fn growth(jobs: usize, options: &LoadOptions) -> anyhow::Result<f64> {
    let comfyui = ScriptedComfy::start().await;
    let server = Server::relay(Some(&comfyui.url()), options)?;
    comfyui.wait_for_calls("GET /ws", 1).await;
    let client = Client::builder().no_proxy().build()?;
    let run = Run {
        comfyui: &comfyui,
        server: &server,
        client: &client,
    };
    run.end_jobs(0, FIRST_JOBS).await?;
    tokio::time::sleep(SETTLING).await;
    let before = server.memory()?;
    run.end_jobs(FIRST_JOBS, jobs).await?;
    tokio::time::sleep(SETTLING).await;
    let after = server.memory()?;
    Ok((after as f64 - before as f64) / jobs as f64)
}

struct Run<'a> {
    comfyui: &'a ScriptedComfy,
    server: &'a Server,
    client: &'a Client,
}

impl Run<'_> {
    /// Has jobs begin and end, some at a time.
    async fn end_jobs(&self, first: usize, count: usize) -> anyhow::Result<()> {
        let ids: Vec<String> = (first..first + count).map(prompt).collect();
        // Graphs that are not asked for again.
        let mut answered: Option<&[String]> = None;
        for ids in ids.chunks(AT_ONCE) {
            self.begin(ids).await?;
            for id in ids {
                self.comfyui.answer(&history(id), 200, &entry(id));
                self.comfyui.send(&nodes(id));
                let data = json!({"prompt_id": id, "timestamp": 0});
                self.comfyui
                    .send(&json!({"type": "execution_success", "data": data}));
            }
            self.comfyui.set_queue(&[], &[]);
            for id in ids {
                // Each job ends with the answer.
                self.comfyui.wait_for_calls(&history(id), 1).await;
            }
            for id in answered.replace(ids).unwrap_or_default() {
                self.comfyui.answer(&history(id), 200, &json!({}));
            }
        }
        Ok(())
    }

    async fn begin(&self, ids: &[String]) -> anyhow::Result<()> {
        let known: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.comfyui.set_queue(&known[..1], &known[1..]);
        let url = format!("http://{}/api/anime/jobs", self.server.address);
        let registered = ids.iter().map(|id| {
            let job = json!({"job_id": format!("job-{id}"), "prompt_id": id});
            let request = self.client.post(&url).json(&job);
            async move { request.send().await?.error_for_status() }
        });
        let registered = stream::iter(registered).buffer_unordered(AT_ONCE);
        registered
            .try_for_each(|_| async { Ok(()) })
            .await
            .context("the relay rejects a prompt")
    }
}

fn prompt(number: usize) -> String {
    format!("6f1b2c0e-4d2a-4f5e-9a8b-{number:012x}")
}

fn history(prompt: &str) -> String {
    format!("GET /history/{prompt}")
}

/// The entry of a prompt in the history, with its graph.
fn entry(prompt: &str) -> Value {
    let image =
        json!({"filename": format!("{prompt}_00001_.png"), "subfolder": "shots", "type": "output"});
    let entry = json!({"prompt": [0, prompt, graph(), {}, [NODES.to_string()]], "outputs": {NODES.to_string(): {"images": [image]}},
        "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
    json!({ prompt: entry })
}

/// The state of the nodes of a prompt: all have run.
fn nodes(prompt: &str) -> Value {
    let nodes = (1..=NODES).map(|node| {
        let id = node.to_string();
        let state = json!({"value": 1, "max": 1, "state": "finished", "node_id": id, "display_node_id": id, "prompt_id": prompt});
        (id, state)
    });
    let nodes: Map<String, Value> = nodes.collect();
    json!({"type": "progress_state", "data": {"prompt_id": prompt, "nodes": nodes}})
}

fn graph() -> Value {
    let nodes = (1..=NODES).map(|node| {
        let inputs = json!({"images": [(node - 1).to_string(), 0], "text": "a landscape, oil on canvas", "steps": 20});
        let class = if node == NODES { "SaveImage" } else { "CLIPTextEncode" };
        (node.to_string(), json!({"class_type": class, "inputs": inputs, "_meta": {"title": class}}))
    });
    nodes.collect::<Map<_, _>>().into()
}

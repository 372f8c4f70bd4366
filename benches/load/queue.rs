//! Thousands of prompts that wait: what a look at their queue costs, while nothing changes and while it moves on.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};

use crate::figures::median;
use crate::options::LoadOptions;
use crate::process::Server;
use crate::scripted_comfy::{JOB_LIST, ScriptedComfy};

/// The call that a look makes at servers that send all graphs.
const QUEUE: &str = "GET /queue";

/// How many prompts wait on one server.
const WAITING: usize = 10_000;

/// How many servers there are in the other scenario, and how many open jobs each has.
const SERVERS: usize = 50;
const OPEN_EACH: usize = 100;

/// On how many servers at a time prompts are registered.
const SERVERS_AT_ONCE: usize = 4;

/// How many prompts of a server are registered at a time.
const AT_ONCE: usize = 100;

/// The nodes of each prompt's graph.
const NODES: usize = 10;

/// Looks that are not measured: the first reads all graphs.
const FIRST_LOOKS: usize = 3;

/// How long a round lasts at least: a look is two seconds after the one before.
const MIN_SECONDS: f64 = 10.0;

/// A ComfyUI server, and how many prompts it has at the beginning.
struct Queued {
    comfyui: ScriptedComfy,
    prompts: usize,
    /// The call that a look makes.
    look: &'static str,
}

/// Milliseconds of processor time for a look.
#[derive(Default)]
struct LookCosts {
    /// At a queue that stays.
    still: Vec<f64>,
    /// At one that moves on.
    moving: Vec<f64>,
}

/// Prints what a look costs, and what many servers cost while nothing changes.
pub(crate) fn measure(options: &LoadOptions) -> anyhow::Result<bool> {
    let waiting = options.subscribers.map_or(WAITING, |count| count as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (mut listed, mut whole) = (LookCosts::default(), LookCosts::default());
    let mut idle = Vec::new();
    for _ in 0..options.rounds {
        for (look, costs) in [(JOB_LIST, &mut listed), (QUEUE, &mut whole)] {
            let (still, moving) = runtime.block_on(looks(look, waiting, options))?;
            costs.still.push(still);
            costs.moving.push(moving);
        }
        idle.push(runtime.block_on(idle_servers(options))?);
    }
    let of = |figures: Vec<f64>| median(figures).unwrap_or_default();
    for (costs, server) in [
        (listed, "that lists its jobs"),
        (whole, "that sends all graphs"),
    ] {
        println!(
            "waiting {waiting}: a look at a server {server} takes {:.1} ms of processor time while nothing changes, {:.1} ms \
             while the queue moves on",
            of(costs.still),
            of(costs.moving),
        );
    }
    println!(
        "waiting: {SERVERS} servers with {OPEN_EACH} open jobs each take {:.1} % of a core",
        of(idle) * 100.0
    );
    Ok(true)
}

/// Milliseconds of processor time for a look at a queue that stays, and at one that moves on.
async fn looks(
    look: &'static str,
    waiting: usize,
    options: &LoadOptions,
) -> anyhow::Result<(f64, f64)> {
    let queued = Queued::start(waiting, look).await;
    let server = Server::relay(Some(&queued.comfyui.url()), options)?;
    queued.register(&server, "job").await?;
    queued.show(0);
    queued.comfyui.wait_for_more_calls(look, FIRST_LOOKS).await;
    let still = queued.cost_of_looks(&server, options, |_| {}).await?;
    let moving = queued
        .cost_of_looks(&server, options, |look| queued.move_to(look))
        .await?;
    Ok((still, moving))
}

/// Cores that the relay takes while many servers have open jobs, and nothing changes.
async fn idle_servers(options: &LoadOptions) -> anyhow::Result<f64> {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(Queued::start(OPEN_EACH, JOB_LIST).await);
    }
    let urls: Vec<String> = servers.iter().map(|it| it.comfyui.url()).collect();
    let server = Server::relay(Some(&urls.join(",")), options)?;
    let registered = servers.iter().enumerate().map(async |(number, queued)| {
        queued.register(&server, &format!("job-{number}")).await?;
        queued.show(0);
        anyhow::Ok(())
    });
    let registered = stream::iter(registered).buffer_unordered(SERVERS_AT_ONCE);
    registered.try_for_each(|()| async { Ok(()) }).await?;
    let looked_at = stream::iter(&servers).for_each_concurrent(None, async |queued| {
        queued
            .comfyui
            .wait_for_more_calls(queued.look, FIRST_LOOKS)
            .await;
    });
    looked_at.await;
    let (cpu, began) = (server.cpu()?, Instant::now());
    tokio::time::sleep(length(options)).await;
    Ok((server.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64())
}

impl Queued {
    async fn start(prompts: usize, look: &'static str) -> Self {
        let comfyui = ScriptedComfy::start().await;
        comfyui.answer(JOB_LIST, 404, &Value::Null);
        Self {
            comfyui,
            prompts,
            look,
        }
    }

    /// Has the prompts from this one on in its queue: the first one runs.
    fn show(&self, first: usize) {
        let item = |number: usize| {
            let graph = graph();
            json!([number, prompt(number), graph, {"client_id": "another"}, ["9"]])
        };
        let running = [item(first)];
        let pending: Vec<Value> = (first + 1..self.prompts).map(item).collect();
        let queue = json!({"queue_running": running, "queue_pending": pending});
        self.comfyui.answer(QUEUE, 200, &queue);
        if self.look == JOB_LIST {
            self.comfyui.answer(JOB_LIST, 200, &self.list(first));
        }
    }

    /// The prompt before this one has completed, and this one runs.
    fn move_to(&self, first: usize) {
        let before = prompt(first - 1);
        let entry = json!({"prompt": [first - 1, before, graph(), {"client_id": "another"}, ["9"]], "outputs": {},
            "status": {"status_str": "success", "messages": [["execution_success", {}]]}});
        self.comfyui.answer(
            &format!("GET /history/{before}"),
            200,
            &json!({before: entry}),
        );
        self.show(first);
    }

    /// The prompts from this one on, the newest first. Each keeps its number.
    fn list(&self, first: usize) -> Value {
        let job = |number: usize| {
            let status = if number == first {
                "in_progress"
            } else {
                "pending"
            };
            json!({"id": prompt(number), "status": status, "priority": number, "create_time": 1_795_886_177_616_i64,
                "execution_start_time": null, "execution_end_time": null, "outputs_count": 0, "preview_output": null,
                "workflow_id": null})
        };
        let jobs: Vec<Value> = (first..self.prompts).rev().map(job).collect();
        let total = jobs.len();
        json!({"jobs": jobs, "pagination": {"offset": 0, "limit": null, "total": total, "has_more": false}})
    }

    /// Registers all prompts, while the queue is short to read: without graphs, where it is read for each.
    async fn register(&self, server: &Server, jobs: &str) -> anyhow::Result<()> {
        let prompts: Vec<String> = (0..self.prompts).map(prompt).collect();
        let ids: Vec<&str> = prompts.iter().map(String::as_str).collect();
        if self.look == JOB_LIST {
            self.show(0);
        } else {
            self.comfyui.set_queue(&ids[..1], &ids[1..]);
        }
        self.comfyui.wait_for_calls("GET /ws", 1).await;
        let client = Client::builder().no_proxy().build()?;
        let url = format!("http://{}/api/anime/jobs", server.address);
        let backend = self.comfyui.address().to_string();
        let registered = stream::iter(&ids).map(|id| {
            let job =
                json!({"job_id": format!("{jobs}-{id}"), "prompt_id": id, "backend": backend});
            let request = client.post(&url).json(&job);
            async move { request.send().await?.error_for_status() }
        });
        let registered = registered.buffer_unordered(AT_ONCE);
        registered
            .try_for_each(|_| async { Ok(()) })
            .await
            .context("the relay rejects a prompt")
    }

    /// Milliseconds of processor time for each look. `before` is called before each.
    async fn cost_of_looks(
        &self,
        server: &Server,
        options: &LoadOptions,
        before: impl Fn(usize),
    ) -> anyhow::Result<f64> {
        let until = Instant::now() + length(options);
        let (cpu, mut looks) = (server.cpu()?, 0);
        while Instant::now() < until {
            looks += 1;
            before(looks);
            self.comfyui.wait_for_more_calls(self.look, 1).await;
        }
        Ok((server.cpu()? - cpu).as_secs_f64() * 1e3 / looks as f64)
    }
}

fn length(options: &LoadOptions) -> Duration {
    Duration::from_secs_f64(options.seconds.max(MIN_SECONDS))
}

fn prompt(number: usize) -> String {
    format!("prompt-{number:05}")
}

fn graph() -> Value {
    let nodes = (1..=NODES).map(|node| {
        let inputs = json!({"images": [(node - 1).to_string(), 0], "text": "a landscape, oil on canvas", "steps": 20});
        let class = if node == 9 { "SaveImage" } else { "CLIPTextEncode" };
        (node.to_string(), json!({"class_type": class, "inputs": inputs, "_meta": {"title": class}}))
    });
    nodes.collect::<serde_json::Map<_, _>>().into()
}

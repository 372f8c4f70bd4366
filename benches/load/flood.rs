//! A ComfyUI that sends far more messages than subscribers should receive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Client;
use serde_json::{Map, Value, json};

use crate::clients::Clients;
use crate::figures::{median, percentiles};
use crate::options::LoadOptions;
use crate::process::Server;
use crate::publisher::name;
use crate::scripted_comfy::ScriptedComfy;
use crate::tally::{Mark, Tally};
use crate::updates::Updates;

/// Messages a second.
const RATE: f64 = 2_000.0;

/// How many nodes each message is about.
const NODES: usize = 100;

/// How many subscribers there are: few, because the ComfyUI side is measured.
const SUBSCRIBERS: usize = 10;

/// The most states of one job a second.
const MAX_PUBLICATIONS: f64 = 10.0;

struct Round {
    /// Processor seconds of the relay in a second.
    cores: f64,
    /// Messages a second that were sent.
    sent: f64,
    /// States a second that each subscriber received.
    states: f64,
    latency: Option<(f64, f64)>,
    is_sound: bool,
}

/// Runs all rounds, prints the results, and returns whether everything arrived that had to.
pub(crate) fn measure(options: &LoadOptions) -> anyhow::Result<bool> {
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(run(options)?);
    }
    let is_sound = rounds.iter().all(|round| round.is_sound);
    let figure = |pick: fn(&Round) -> f64| {
        let figures = rounds.iter().map(pick).collect();
        median(figures).unwrap_or_default()
    };
    let latency = |pick: fn((f64, f64)) -> f64| {
        let figures = rounds.iter().filter_map(|round| round.latency);
        median(figures.map(pick).collect()).unwrap_or_default()
    };
    println!(
        "flood of {:.0} messages a second on {NODES} nodes: {:.2} cores, {:.1} states a second for each of \
         {SUBSCRIBERS} subscribers, {:.1} / {:.1} ms old (p50 / p99), {}",
        figure(|round| round.sent),
        figure(|round| round.cores),
        figure(|round| round.states),
        latency(|(p50, _)| p50),
        latency(|(_, p99)| p99),
        if is_sound {
            "the last one arrived"
        } else {
            "FAILED: lost, out of order, too many, or the last one did not arrive"
        }
    );
    Ok(is_sound)
}

fn run(options: &LoadOptions) -> anyhow::Result<Round> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let comfyui = Arc::new(runtime.block_on(ScriptedComfy::start()));
    comfyui.set_queue(&["p"], &[]);
    let server = Server::relay(Some(&comfyui.url()), options)?;
    runtime.block_on(async {
        comfyui.wait_for_calls("GET /ws", 1).await;
        register(&server).await
    })?;
    let updates = Arc::new(Updates::new(1));
    let tally = Tally::new(updates.clone(), vec![SUBSCRIBERS as u32], 0, Mark::Step);
    let mut clients = Clients::new(server.address, tally)?;
    clients.open(&[0; SUBSCRIBERS])?;
    clients.tally.restart();
    let (cpu, began) = (server.cpu()?, Instant::now());
    let count = (options.seconds * RATE).round().max(1.0) as u64;
    // Our own reference keeps the server alive until the relay has ended.
    let sender = comfyui.clone();
    let sending = std::thread::spawn(move || {
        send_steps(&sender, &updates, count);
        Ok(vec![count])
    });
    let posted = clients.receive_while(sending)?;
    let sent = count as f64 / began.elapsed().as_secs_f64();
    let has_all = clients.receive_until(|clients| clients.tally.has_all(&posted))?;
    let seconds = began.elapsed().as_secs_f64();
    let tally = &mut clients.tally;
    let each = tally.states as f64 / SUBSCRIBERS as f64;
    // A change of status, and the first state of the flood, are published at once.
    let is_calm = each <= seconds * MAX_PUBLICATIONS + 2.0;
    Ok(Round {
        cores: (server.cpu()? - cpu).as_secs_f64() / seconds,
        sent,
        states: each / seconds,
        latency: percentiles(&mut tally.latencies),
        is_sound: has_all && is_calm && tally.lost + tally.out_of_order == 0,
    })
}

/// Registers the running prompt with the relay.
async fn register(server: &Server) -> anyhow::Result<()> {
    let url = format!("http://{}/api/anime/jobs", server.address);
    let job = json!({"job_id": name(0), "prompt_id": "p"});
    let client = Client::builder().no_proxy().build()?;
    let response = client.post(url).json(&job).send().await?;
    response
        .error_for_status()
        .context("the relay rejects the prompt")?;
    Ok(())
}

/// Sends `count` steps at [`RATE`].
fn send_steps(comfyui: &ScriptedComfy, updates: &Updates, count: u64) {
    let mut state = progress_state(count);
    let gap = Duration::from_secs_f64(1.0 / RATE);
    let began = Instant::now();
    for step in 1..=count {
        let due = began + gap.mul_f64((step - 1) as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        state["data"]["nodes"][(NODES - 1).to_string()]["value"] = json!(step);
        updates.post(0, step);
        comfyui.send(&state);
    }
}

/// A `progress_state`: all nodes but the last have finished, and the last has `steps` steps.
fn progress_state(steps: u64) -> Value {
    let nodes: Map<String, Value> = (0..NODES)
        .map(|node| {
            let id = node.to_string();
            let (max, state) = if node + 1 == NODES {
                (steps, "running")
            } else {
                (1, "finished")
            };
            let entry = json!({"value": 1, "max": max, "state": state, "node_id": id, "prompt_id": "p",
                "display_node_id": id, "parent_node_id": null, "real_node_id": id});
            (id, entry)
        })
        .collect();
    json!({"type": "progress_state", "data": {"prompt_id": "p", "nodes": nodes}})
}

//! Every recording, played to its end with a client that reconnects as a relay does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use comfy_relay::recording::{Exchange, FrameKind, RecordedOutcome, Recording};
use comfy_relay::replay::PlaybackSpeed;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval, timeout};

use super::client::{Event, POLL, ReplayClient, ReplaySocket, history_path, recording, replay};
use crate::support::recordings::names;

/// After this silence while a prompt runs, a client reconnects whose socket another one has displaced.
const SILENCE: Duration = Duration::from_secs(2);

/// After this silence nothing more comes.
const NO_MORE: Duration = Duration::from_secs(20);

/// How long a recording may take before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(180);

/// How many recordings are played at the same time.
const CONCURRENCY: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_recording_plays_to_its_end() {
    let names = names();
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let drives: Vec<_> = names
        .into_iter()
        .map(|name| {
            let permits = permits.clone();
            tokio::spawn(async move {
                let _permit = permits.acquire().await.unwrap();
                let began = Instant::now();
                let read = tokio::task::spawn_blocking({
                    let name = name.clone();
                    move || recording(&name)
                });
                let faults = match timeout(LIMIT, drive(read.await.unwrap())).await {
                    Ok(faults) => faults,
                    Err(_) => vec!["did not end".to_owned()],
                };
                (name, began.elapsed(), faults)
            })
        })
        .collect();
    let mut faults = Vec::new();
    for drive in drives {
        let (name, took, found) = drive.await.unwrap();
        if took > Duration::from_secs(3) {
            println!("{name} took {took:?}");
        }
        faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The end of a prompt: its history entry, or `None`.
type End = Option<Value>;

struct Driver {
    client: ReplayClient,
    client_id: String,
    socket: Option<ReplaySocket>,
    received: Vec<Event>,
    last: Instant,
    /// The last event other than `status` announces an end.
    announced: bool,
    /// The recorded client opened a second socket beside its first one, which was silent from then on: so does this one.
    is_displaced: bool,
}

/// Plays a recording to its end, and returns what was wrong.
async fn drive(recording: Arc<Recording>) -> Vec<String> {
    let server = replay(&[&recording], PlaybackSpeed::Fastest, false).await;
    let client = ReplayClient::of(&server);
    let client_id = "my-own-client".to_owned();
    let socket = client.connect(Some(&client_id)).await;
    let mut driver = Driver {
        client,
        client_id,
        socket: Some(socket),
        received: Vec::new(),
        last: Instant::now(),
        announced: false,
        is_displaced: is_displaced(&recording),
    };
    let mut faults = Vec::new();
    let posts: Vec<&Exchange> = recording.prompts().collect();
    let mut open: Vec<(usize, String, Value)> = Vec::new();
    let mut ids = HashMap::new();
    let mut ends: HashMap<usize, End> = HashMap::new();
    for (k, post) in posts.iter().enumerate() {
        let before: Vec<usize> = (0..k)
            .filter(|j| had_ended(&recording, posts[*j], post.t))
            .collect();
        driver
            .settle(&mut open, &mut ends, |j| before.contains(&j))
            .await;
        let mut body = post.request_body.clone();
        if body["client_id"] == recording.meta.client_id.as_str() {
            body["client_id"] = json!(driver.client_id);
        }
        let (status, answer) = driver.client.post("/prompt", &body).await;
        if Some(status) != post.status {
            faults.push(format!("#{k} was answered {status}, not {:?}", post.status));
        }
        if let Some(id) = answer["prompt_id"].as_str() {
            driver.last = Instant::now();
            open.push((k, id.to_owned(), answer["number"].clone()));
            ids.insert(k, id.to_owned());
        } else if answer != post.response {
            faults.push(format!("#{k} was answered {answer}"));
        }
    }
    driver.settle(&mut open, &mut ends, |_| true).await;
    for (k, id) in &ids {
        let recorded = posts[*k].response["prompt_id"].as_str().unwrap();
        let outcome = recording.outcome(recorded).unwrap();
        if !agrees(outcome, &ends[k], &recording.meta.comfyui_version) {
            faults.push(format!("#{k} {id} should be {outcome:?}: {:?}", ends[k]));
        }
    }
    if let Some(expected) = expected_events(&recording, &driver.client_id, &ids) {
        driver.receive_more(expected.len()).await;
        let received = &driver.received;
        for (index, event) in expected.iter().enumerate() {
            if received.get(index) != Some(event) {
                faults.push(format!(
                    "received {} frames of {}; frame {index} is {:?}, not {event:?}",
                    received.len(),
                    expected.len(),
                    received.get(index)
                ));
                break;
            }
        }
    }
    server.shutdown().await;
    faults
}

/// Whether the recorded client opened a socket while an earlier one of the same id was still open.
fn is_displaced(recording: &Recording) -> bool {
    let mut open: HashMap<&str, Option<&str>> = HashMap::new();
    for frame in &recording.frames {
        match &frame.kind {
            FrameKind::Open { url } => {
                let id = url.split_once("clientId=").map(|(_, id)| id);
                if id.is_some() && open.values().any(|other| *other == id) {
                    return true;
                }
                open.insert(&frame.socket, id);
            }
            FrameKind::Close { .. } => {
                open.remove(&*frame.socket);
            }
            _ => {}
        }
    }
    false
}

/// Whether a prompt had ended when another was posted.
fn had_ended(recording: &Recording, prompt: &Exchange, t: f64) -> bool {
    let Some(id) = prompt.response["prompt_id"].as_str() else {
        return false;
    };
    let number = &prompt.response["number"];
    let mut polls = recording.exchanges.iter().filter(|exchange| {
        exchange.is("GET", "/queue")
            && exchange.status == Some(200)
            && exchange.t > prompt.t_end
            && exchange.t_end < t
    });
    let lists = |poll: &Exchange, list: &str| {
        let entries = poll.response[list].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .any(|entry| entry[1] == id && entry[0] == *number)
    };
    polls
        .next_back()
        .is_some_and(|poll| !lists(poll, "queue_running") && !lists(poll, "queue_pending"))
}

/// What the only socket of a recording received after its greeting, with the new ids; `None` if there were several.
fn expected_events(
    recording: &Recording,
    client_id: &str,
    ids: &HashMap<usize, String>,
) -> Option<Vec<Event>> {
    if recording.frames.iter().any(|frame| frame.socket != "main") {
        return None;
    }
    let mut ids: Vec<(String, &String)> = ids
        .iter()
        .map(|(k, id)| {
            let post = recording.prompts().nth(*k).unwrap();
            let recorded = serde_json::to_string(&post.response["prompt_id"]).unwrap();
            (recorded.trim_matches('"').to_owned(), id)
        })
        .collect();
    let client_id = client_id.to_owned();
    ids.push((recording.meta.client_id.clone(), &client_id));
    let events = recording
        .frames
        .iter()
        .filter_map(|frame| match &frame.kind {
            FrameKind::Text(text) if text.contains("\"sid\"") || text.contains("feature_flags") => {
                None
            }
            FrameKind::Text(text) => {
                let text = ids
                    .iter()
                    .fold(text.clone(), |text, (from, to)| text.replace(from, to));
                Some(Event::Text(text))
            }
            FrameKind::Binary(bytes) if bytes[3] != 4 => Some(Event::Binary(bytes.to_vec())),
            FrameKind::Binary(bytes) => {
                let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
                let json = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
                let json = ids
                    .iter()
                    .fold(json, |text, (from, to)| text.replace(from, to));
                let mut out = bytes[..4].to_vec();
                out.extend((json.len() as u32).to_be_bytes());
                out.extend(json.as_bytes());
                out.extend(&bytes[8 + length..]);
                Some(Event::Binary(out))
            }
            _ => None,
        });
    Some(events.collect())
}

fn agrees(outcome: RecordedOutcome, end: &End, version: &str) -> bool {
    let Some(entry) = end else {
        return matches!(outcome, RecordedOutcome::Cancelled | RecordedOutcome::Lost);
    };
    if version.starts_with("2023") {
        return outcome != RecordedOutcome::Lost && entry.get("status").is_none();
    }
    let messages = entry["status"]["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let has = |kind: &str| {
        messages
            .iter()
            .any(|message| message[0] == kind && message[1]["exception_type"] != "ExecutionBlocked")
    };
    match outcome {
        RecordedOutcome::Completed => entry["status"]["status_str"] == "success",
        RecordedOutcome::Failed => {
            has("execution_error") && entry["status"]["status_str"] == "error"
        }
        RecordedOutcome::Cancelled => has("execution_interrupted"),
        RecordedOutcome::Lost => false,
    }
}

impl Driver {
    /// Receives and polls until all of these prompts have ended.
    async fn settle(
        &mut self,
        open: &mut Vec<(usize, String, Value)>,
        ends: &mut HashMap<usize, End>,
        wanted: impl Fn(usize) -> bool,
    ) {
        let mut tick = interval(POLL);
        while open.iter().any(|(k, ..)| wanted(*k)) {
            if let Some(socket) = &mut self.socket {
                tokio::select! {
                    biased;
                    event = socket.next() => {
                        self.add(event);
                        continue;
                    }
                    _ = tick.tick() => {}
                }
            } else {
                tick.tick().await;
                self.socket = self.client.try_connect(Some(&self.client_id)).await;
                self.last = Instant::now();
            }
            let silent = self.last.elapsed() > SILENCE;
            let Some(queue) = self.client.try_get("/queue").await else {
                continue;
            };
            let running = queue["queue_running"].as_array().unwrap();
            let listed = |id: &str| {
                running
                    .iter()
                    .chain(queue["queue_pending"].as_array().unwrap())
                    .filter(|entry| entry[1] == id)
                    .count()
            };
            let mut still = Vec::new();
            for (k, id, number) in open.drain(..) {
                // Prompts that share an id leave the queue in their order.
                let twins = still.iter().filter(|(_, other, _)| *other == id).count();
                if listed(&id) > twins {
                    // As the recorded client did: read at the announced end, which is often too early.
                    if self.announced
                        && let Some(history) = self.client.try_get(&history_path(&id)).await
                        && history[&id]["prompt"][0] == number
                    {
                        ends.insert(k, Some(history[&id].clone()));
                        continue;
                    }
                    still.push((k, id, number));
                    continue;
                }
                match self.client.try_get(&history_path(&id)).await {
                    Some(history) => {
                        ends.insert(k, history.get(&id).cloned());
                    }
                    None => still.push((k, id, number)),
                }
            }
            *open = still;
            if self.is_displaced && !running.is_empty() && silent {
                self.reconnect().await;
            }
        }
    }

    /// The socket is silent while a prompt runs: waits once more, because the machine may be slow, then reconnects.
    async fn reconnect(&mut self) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        if let Ok(event) = timeout(SILENCE, socket.next()).await {
            self.add(event);
        } else if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
    }

    /// Receives until there are so many events, or no more come.
    async fn receive_more(&mut self, count: usize) {
        while self.received.len() < count {
            let Some(socket) = &mut self.socket else {
                return;
            };
            let Ok(event) = timeout(NO_MORE, socket.next()).await else {
                return;
            };
            self.add(event);
        }
    }

    fn add(&mut self, event: Event) {
        self.last = Instant::now();
        let json = event.json();
        match json["type"].as_str() {
            Some("execution_success" | "execution_error" | "execution_interrupted") => {
                self.announced = true
            }
            Some("status") => {}
            _ => self.announced = false,
        }
        match event {
            Event::Closed(_) | Event::Lost => self.socket = None,
            // The greeting.
            _ if json["data"].get("sid").is_some() => {}
            event => self.received.push(event),
        }
    }
}

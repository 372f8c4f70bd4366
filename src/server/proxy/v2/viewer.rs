//! `GET /api/v2/jobs/{id}/events`: the states of a job as Server-Sent Events, for any number of viewers.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::Response;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::output::OutputLinks;
use super::state::{Eta, ShownState, V2Progress, V2Status};
use crate::hub::{Connection, Preview, Subscription};
use crate::job::{JobId, Output};
use crate::server::api::events::sink::{self, Beat, ClientGone, EventSink};
use crate::server::error::ApiError;
use crate::server::response::Body;
use crate::server::security::Caller;
use crate::server::state::ServerState;
use crate::session::Admission;

/// Progress and previews are sent so often at most. Changes of the status are sent at once.
const PACE: Duration = Duration::from_millis(500);

/// A `status` event.
#[derive(Debug, PartialEq, Serialize)]
struct StatusEvent {
    status: V2Status,
    queue_position: Option<usize>,
    #[serde(flatten)]
    eta: Eta,
}

/// A `preview` event.
#[derive(Serialize)]
struct PreviewEvent<'a> {
    node_id: &'a str,
    content_type: &'static str,
    data_base64: String,
}

/// One viewer of a job.
struct Viewer {
    state: ServerState,
    job: JobId,
    subscription: Subscription,
    sink: EventSink,
    admission: Admission,
    links: OutputLinks,
    sent: Sent,
}

/// What a viewer has.
#[derive(Default)]
struct Sent {
    status: Option<(V2Status, Option<usize>)>,
    progress: Option<V2Progress>,
    preview: Option<u64>,
    outputs: HashSet<usize>,
}

/// Opens the stream of a job. It begins with the newest state, and ends after the final one.
pub(super) async fn open(
    state: &ServerState,
    caller: &Caller,
    job: JobId,
    admission: Admission,
) -> Result<Response<Body>, ApiError> {
    state.relay.lookup(&job).await?;
    let (sink, response) = sink::open(state, true);
    let connection = Connection::new(caller.address, true);
    let viewer = Viewer {
        subscription: state.relay.subscribe(&job, connection),
        links: OutputLinks::new(&caller.public_address, &admission.permissions),
        state: state.clone(),
        job,
        sink,
        admission,
        sent: Sent::default(),
    };
    state.tasks.spawn(async move {
        if viewer.run().await.is_err() {
            tracing::debug!("the viewer of a job has disconnected");
        }
    });
    Ok(response)
}

impl Viewer {
    /// Sends until the stream ends: with the job, the token or the server. A client then asks for the job itself.
    async fn run(mut self) -> Result<(), ClientGone> {
        let mut pulse = self.sink.pulse();
        let mut turns = turns();
        let mut waiting: Option<ShownState> = None;
        let stop = self.state.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.sink.closed() => return Err(ClientGone),
                () = self.admission.permissions.expired() => return Ok(()),
                Some(publication) = self.subscription.next() => {
                    let Ok(shown) = ShownState::read(&publication.payload) else {
                        tracing::error!(job_id = %self.job, "cannot read a published state");
                        return Ok(());
                    };
                    if publication.is_final() {
                        return self.end(&shown).await;
                    }
                    if self.is_news(&shown) {
                        waiting = None;
                        self.send(&shown).await?;
                    } else {
                        waiting = Some(shown);
                    }
                }
                _ = turns.tick() => {
                    if let Some(shown) = waiting.take() {
                        self.send(&shown).await?;
                    }
                    if self.sent.status.is_some() {
                        self.send_preview().await?;
                    }
                }
                beat = pulse.next() => if matches!(beat, Beat::Comment) {
                    self.sink.send_beat(beat).await?;
                },
            }
        }
    }

    /// Whether a state has another status than the one that was sent last.
    fn is_news(&self, shown: &ShownState) -> bool {
        let sent = self.sent.status.as_ref().map(|(status, _)| *status);
        sent != Some(shown.v2_status())
    }

    async fn send(&mut self, shown: &ShownState) -> Result<(), ClientGone> {
        self.send_status(shown).await?;
        self.send_progress(shown).await?;
        if self.sent.preview.is_none() {
            self.send_preview().await?;
        }
        self.send_outputs(shown).await
    }

    /// Sends the rest: the status comes last, because clients leave after it.
    async fn end(&mut self, shown: &ShownState) -> Result<(), ClientGone> {
        self.send_progress(shown).await?;
        self.send_outputs(shown).await?;
        self.send_status(shown).await
    }

    async fn send_status(&mut self, shown: &ShownState) -> Result<(), ClientGone> {
        let status = (shown.v2_status(), shown.queue_position());
        if self.sent.status.replace(status) == Some(status) {
            return Ok(());
        }
        let event = StatusEvent {
            status: status.0,
            queue_position: status.1,
            eta: shown.eta.clone(),
        };
        self.sink.send_named("status", &event).await
    }

    async fn send_progress(&mut self, shown: &ShownState) -> Result<(), ClientGone> {
        let Some(progress) = shown.v2_progress() else {
            return Ok(());
        };
        if self.sent.progress.as_ref() == Some(&progress) {
            return Ok(());
        }
        self.sink.send_named("progress", &progress).await?;
        self.sent.progress = Some(progress);
        Ok(())
    }

    async fn send_preview(&mut self) -> Result<(), ClientGone> {
        let Some(preview) = self.state.relay.preview(&self.job) else {
            return Ok(());
        };
        if self.sent.preview.replace(preview.seq) == Some(preview.seq) {
            return Ok(());
        }
        self.sink.send(encoded(&preview)).await
    }

    async fn send_outputs(&mut self, shown: &ShownState) -> Result<(), ClientGone> {
        let first = shown.first_output();
        let outputs = shown.outputs.iter().enumerate();
        let numbered = outputs.map(|(place, output)| (first + place, output));
        let is_new = |(number, _): &(usize, &Output)| self.sent.outputs.insert(*number);
        let new = numbered.filter(is_new).collect();
        for output in self.links.outputs(&self.state, &self.job, new).await {
            self.sink.send_named("output", &output).await?;
        }
        Ok(())
    }
}

/// The event of a preview, which is encoded once for all viewers.
fn encoded(preview: &Preview) -> Bytes {
    let encode = || {
        let event = PreviewEvent {
            node_id: preview.node.as_deref().unwrap_or_default(),
            content_type: preview.mime,
            data_base64: BASE64_STANDARD.encode(&preview.image),
        };
        sink::named_event("preview", &event).unwrap_or_default()
    };
    preview.event.get_or_init(encode).clone()
}

/// When progress and previews may be sent.
fn turns() -> Interval {
    // The first tick of an interval comes at once, and would be one more than the pace allows.
    let mut turns = interval_at(Instant::now() + PACE, PACE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    #[test]
    fn a_preview_is_encoded_once_for_all_viewers() {
        let preview = Preview {
            job: JobId::parse("job").unwrap(),
            node: Some("3".to_owned()),
            seq: 1,
            mime: "image/png",
            image: Bytes::from_static(b"png"),
            event: OnceLock::new(),
        };
        let first = encoded(&preview);
        let event = concat!(
            "event: preview\n",
            r#"data: {"node_id":"3","content_type":"image/png","data_base64":"cG5n"}"#,
            "\n\n"
        );
        assert_eq!(first, event);
        assert_eq!(encoded(&preview).as_ptr(), first.as_ptr());
    }
}

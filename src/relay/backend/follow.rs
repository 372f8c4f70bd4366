//! Task A: reads one backend's socket, and hands on what it hears. Waits for nothing else.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::comfy::{Incoming, Message, PreviewImage};
use crate::hub;
use crate::job::{Event, JobId};
use crate::relay::Relay;
use crate::relay::backend::Backend;
use crate::relay::backend::lease::Lease;

impl Relay {
    /// Follows a backend until the relay stops.
    #[tracing::instrument(name = "upstream", skip_all, fields(backend = backend.name()))]
    pub(in crate::relay) async fn follow(self, index: usize, backend: Arc<Backend>) {
        let keeping = self.0.tasks.spawn(self.clone().keep_lease(backend.clone()));
        self.listen(index, &backend).await;
        // Who takes over may dial as soon as the lease is free, and our socket is closed by now.
        let _ = keeping.await;
        self.release_lease(&backend).await;
    }

    async fn listen(&self, index: usize, backend: &Backend) {
        let mut socket = backend.comfy.socket(self.comfy_config());
        let mut lease = backend.lease.subscribe();
        loop {
            if *lease.borrow_and_update() == Lease::HeldByPeer {
                self.stand_by(index, backend);
                socket.redial().await;
                tokio::select! {
                    () = self.stopping() => break,
                    // Fails only where the backend is gone, and we have it.
                    _ = lease.wait_for(|lease| *lease != Lease::HeldByPeer) => {}
                }
            }
            tokio::select! {
                biased;
                () = self.stopping() => break,
                _ = lease.changed() => {}
                () = backend.redial.notified() => {
                    self.drop_socket(backend);
                    socket.redial().await;
                }
                incoming = socket.next() => self.on_incoming(index, backend, incoming),
            }
        }
        socket.redial().await;
    }

    /// A socket that is replaced is a loss like any other: the server may be restarted before the
    /// next one is open.
    fn drop_socket(&self, backend: &Backend) {
        let was_connected = backend.connected.send_replace(false);
        if was_connected {
            backend.state().disconnects += 1;
        }
        self.changed();
    }

    /// Another relay follows the server: what comes of its jobs is not ours to tell.
    fn stand_by(&self, index: usize, backend: &Backend) {
        backend.state().reachable = false;
        self.ingest_all(index, &Event::Reachable(false));
        self.drop_socket(backend);
    }

    fn on_incoming(&self, index: usize, backend: &Backend, incoming: Incoming) {
        backend.state().last_frame_at = Instant::now();
        match incoming {
            Incoming::Connected => self.on_connect(index, backend),
            Incoming::Disconnected(reason) => self.on_disconnect(index, backend, &reason),
            Incoming::Text(text) => {
                let view = backend.comfy.rest().view();
                self.on_message(index, backend, Message::parse(&text, view));
            }
            Incoming::Binary(frame) => self.on_preview(index, backend, frame),
        }
    }

    fn on_connect(&self, index: usize, backend: &Backend) {
        tracing::info!("connected to ComfyUI");
        backend.state().on_connect();
        backend.connected.send_replace(true);
        self.ingest_all(index, &Event::Reachable(true));
        self.changed();
        backend.reconcile_now.notify_one();
    }

    /// A socket that was open is dialled again at once, and nobody need know. One that cannot be
    /// opened means that the server does not answer.
    fn on_disconnect(&self, index: usize, backend: &Backend, reason: &str) {
        let was_connected = backend.connected.send_replace(false);
        let was_reachable = {
            let mut state = backend.state();
            if was_connected {
                state.on_disconnect();
            }
            state.current = None;
            std::mem::replace(&mut state.reachable, was_connected)
        };
        match (was_connected, was_reachable) {
            (true, _) => tracing::warn!(reason, "lost the socket to ComfyUI, dialling again"),
            (false, true) => tracing::warn!(reason, "ComfyUI does not answer, trying on"),
            (false, false) => tracing::debug!(reason, "ComfyUI does not answer yet"),
        }
        if !was_connected {
            backend.state().forecast.clear();
            self.ingest_all(index, &Event::Reachable(false));
        }
        self.changed();
    }

    fn on_message(&self, index: usize, backend: &Backend, message: Message) {
        match message {
            Message::Status { queue_remaining } => {
                backend.state().set_queue_length(queue_remaining);
                self.changed();
                backend.reconcile_soon.notify_one();
            }
            Message::Prompt { prompt_id, event } => {
                self.on_prompt_event(index, backend, prompt_id, event)
            }
            Message::PromptEnded { prompt_id } => self.on_done(index, backend, prompt_id),
            Message::Ignored => {}
            Message::Unknown => tracing::debug!("ignored a message of an unknown kind"),
        }
    }

    fn on_prompt_event(&self, index: usize, backend: &Backend, told: Option<String>, event: Event) {
        let ends = matches!(event, Event::Ended(_));
        let prompt_id = {
            let mut state = backend.state();
            if told.is_some() {
                state.stale_sockets = 0;
                state.missed_endings = 0;
            }
            let Some(prompt_id) = told.or_else(|| state.current.clone()) else {
                return;
            };
            state.current = (!ends).then(|| prompt_id.clone());
            prompt_id
        };
        let mut jobs = self.jobs();
        let followers: Vec<JobId> = jobs.of_prompt(index, &prompt_id).to_vec();
        if followers.is_empty() {
            backend.state().keep_early_event(prompt_id, event);
            return;
        }
        for id in followers {
            self.ingest_in(&mut jobs, &id, event.clone());
        }
        if ends {
            backend.reconcile_now.notify_one();
        }
    }

    fn on_done(&self, index: usize, backend: &Backend, told: Option<String>) {
        let current = backend.state().current.take();
        let Some(prompt_id) = told.or(current) else {
            return;
        };
        let mut jobs = self.jobs();
        for id in jobs.of_prompt(index, &prompt_id).to_vec() {
            if let Some(entry) = jobs.get_mut(&id) {
                entry.work_done = true;
            }
            self.ingest_in(&mut jobs, &id, Event::WorkDone);
        }
        backend.reconcile_now.notify_one();
    }

    fn on_preview(&self, index: usize, backend: &Backend, frame: Bytes) {
        let Some(preview) = PreviewImage::parse(frame) else {
            return;
        };
        let Some(prompt_id) = preview
            .prompt_id
            .or_else(|| backend.state().current.clone())
        else {
            return;
        };
        let mut jobs = self.jobs();
        for id in jobs.of_prompt(index, &prompt_id).to_vec() {
            let Some(entry) = jobs.get_mut(&id) else {
                continue;
            };
            entry.previews += 1;
            let current = entry.job.nodes().current().map(|current| current.id);
            self.hub().publish_preview(hub::Preview {
                node: preview.node.as_deref().or(current).map(str::to_owned),
                seq: entry.previews,
                mime: preview.mime,
                image: preview.image.clone(),
                job: id,
            });
        }
    }

    /// Hands an event to every open job of a backend.
    fn ingest_all(&self, index: usize, event: &Event) {
        let mut jobs = self.jobs();
        let open: Vec<JobId> = jobs
            .open(index)
            .map(|entry| entry.job.id().clone())
            .collect();
        for id in open {
            self.ingest_in(&mut jobs, &id, event.clone());
        }
    }
}

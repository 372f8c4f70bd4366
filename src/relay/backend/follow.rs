//! Task A: reads a backend's socket, and passes on what it receives. Waits for nothing else.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::comfy::{Incoming, Message, NodeSign, NodeText, PreviewImage};
use crate::hub;
use crate::job::{Event, JobId};
use crate::relay::backend::follower::Follower;

impl Follower {
    /// Follows the backend until the relay stops.
    #[tracing::instrument(name = "upstream", skip_all, fields(backend = self.backend.name()))]
    pub(in crate::relay) async fn follow(self: Arc<Self>) {
        self.tasks.spawn(self.clone().keep_lease());
        self.read_socket().await;
    }

    async fn read_socket(&self) {
        let mut socket = self
            .backend
            .comfy
            .socket(&self.config, self.backend.dial_now.clone());
        let mut lease = self.backend.lease.subscribe();
        loop {
            if lease.borrow_and_update().stands_by() {
                self.stand_by();
                socket.redial().await;
                self.backend.is_put_down.send_replace(true);
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    // Fails only if the backend is gone, and we have it.
                    _ = lease.wait_for(|lease| !lease.stands_by()) => {}
                }
                self.backend.is_put_down.send_replace(false);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                _ = lease.changed() => {}
                () = self.backend.redial.notified() => {
                    self.drop_socket();
                    socket.redial().await;
                }
                incoming = socket.next() => {
                    let is_lost = matches!(incoming, Incoming::Disconnected(_));
                    self.on_incoming(incoming);
                    if is_lost {
                        // After what is known of the server: those who wait for the attempt read that.
                        let failed_dial = &self.backend.failed_dial;
                        failed_dial.send_replace(Some(socket.dialled_at()));
                    }
                }
            }
        }
        socket.redial().await;
    }

    /// Counts a socket that is replaced as lost: the server may be restarted before the next one is open.
    fn drop_socket(&self) {
        let was_connected = self.backend.connected.send_replace(false);
        self.tracker.tap.on_disconnect(self.backend.index);
        {
            let mut state = self.backend.state();
            state.socket.disconnects += u64::from(was_connected);
            state.outage.on_disconnect(self.tracker.now());
        }
        self.tracker.notify_monitors();
    }

    /// Another relay follows the backend: it publishes its jobs, and this one only serves their states.
    fn stand_by(&self) {
        {
            let mut state = self.backend.state();
            state.api.reachable = false;
            state.outage.end();
        }
        self.on_sign_of_life();
        self.tracker
            .ingest_all(&self.backend, &Event::Reachable(false));
        self.drop_socket();
    }

    fn on_incoming(&self, incoming: Incoming) {
        let received_at = Instant::now();
        self.backend.state().socket.restart_silence();
        match incoming {
            Incoming::Connected => self.on_connect(),
            Incoming::Disconnected(reason) => self.on_disconnect(&reason),
            Incoming::Text(text) => {
                self.tap_text(&text);
                let view = self.backend.comfy.rest().view();
                match Message::parse(&text, view) {
                    Message::Features => self.backend.state().api.features = Some(text),
                    message => self.on_message(message, received_at),
                }
            }
            Incoming::Binary(frame) => {
                self.tap_binary(&frame);
                self.on_binary(frame);
            }
        }
    }

    fn on_binary(&self, frame: Bytes) {
        match NodeText::parse(frame.clone()) {
            Some(text) => self.on_text(text),
            None => self.on_preview(frame),
        }
    }

    fn on_connect(&self) {
        // Its server may have been restarted, on other files and with another version.
        self.backend.images.clear();
        self.backend.comfy.rest().forget_abilities();
        let unreachable_since = {
            let mut state = self.backend.state();
            state.socket.on_connect();
            state.api.reachable = true;
            state.api.version_due = true;
            state.outage.end()
        };
        if unreachable_since.is_some() {
            self.distrust_node_classes();
        }
        match unreachable_since {
            None if self.backend.state().socket.is_contested() => {
                tracing::debug!("connected to ComfyUI again");
            }
            None => tracing::info!("connected to ComfyUI"),
            Some(since) => {
                tracing::info!(%since, "connected to ComfyUI, which did not answer before")
            }
        }
        self.backend.connected.send_replace(true);
        self.tracker
            .ingest_all(&self.backend, &Event::Reachable(true));
        self.tracker.notify_monitors();
        self.cancel_abandoned();
        self.tracker.queue.wake();
        self.backend.reconcile_now.notify_one();
    }

    /// The server answers again: what was taken back from it runs elsewhere.
    pub(in crate::relay) fn cancel_abandoned(&self) {
        let abandoned = self.tracker.queue.take_abandoned(&self.backend);
        if abandoned.is_empty() {
            return;
        }
        let backend = self.backend.clone();
        self.tasks.spawn(async move {
            for prompt_id in abandoned {
                match backend.comfy.rest().cancel(&prompt_id).await {
                    Ok(_) => tracing::info!(prompt_id, "cancelled a prompt that runs elsewhere by now"),
                    Err(error) => tracing::warn!(prompt_id, %error, "cannot cancel a prompt that runs elsewhere by now"),
                }
            }
        });
    }

    /// A socket that was open is dialled again at once, and subscribers need not know. One that cannot be
    /// opened means that the server does not answer.
    fn on_disconnect(&self, reason: &str) {
        let was_connected = self.backend.connected.send_replace(false);
        self.tracker.tap.on_disconnect(self.backend.index);
        let now = self.tracker.now();
        let was_contested;
        let unreachable_since = {
            let mut state = self.backend.state();
            was_contested = state.socket.is_contested();
            if was_connected {
                state.socket.on_disconnect();
            } else {
                state.socket.on_failed_dial();
            }
            state.queue.lose_sight();
            state.api.reachable = was_connected;
            if was_connected {
                state.outage.on_disconnect(now);
                None
            } else {
                state.outage.on_failure(reason, now)
            }
        };
        if was_connected && was_contested {
            tracing::debug!(reason, "lost the socket to ComfyUI again");
        } else if was_connected && self.backend.state().socket.is_contested() {
            tracing::warn!(
                reason,
                "socket after socket to ComfyUI is cut as soon as it is open: another client uses the relay's client \
                 id, or a proxy cuts them; reconnecting with growing pauses"
            );
        } else if was_connected {
            tracing::warn!(reason, "lost the socket to ComfyUI, reconnecting");
        } else if let Some(since) = unreachable_since {
            let address = self.backend.comfy.address();
            tracing::warn!(
                address, reason, %since,
                "cannot connect to ComfyUI, retrying; if it runs, check its address (--comfyui-url, COMFYUI_URL)"
            );
        } else {
            tracing::debug!(reason, "cannot connect to ComfyUI yet");
        }
        if !was_connected {
            // What it did before is not known to go on.
            self.on_sign_of_life();
            self.estimator.clear_queue(&self.backend);
            self.tracker
                .ingest_all(&self.backend, &Event::Reachable(false));
        }
        self.tracker.notify_monitors();
    }

    fn on_message(&self, message: Message, received_at: Instant) {
        match message {
            Message::Status { queue_remaining } => {
                let now = self.tracker.now();
                // Not held while the lengths of all queues are read.
                self.backend.state().queue.set_length(queue_remaining, now);
                self.tracker.notify_monitors();
                self.tracker.queue.wake();
                self.backend.reconcile_soon.notify_one();
                if self.tracker.tap.is_open() {
                    self.tracker.send_queue_length(true);
                }
            }
            Message::Prompt { prompt_id, event } => self.on_event(prompt_id, event, received_at),
            Message::PromptEnded { prompt_id } => self.on_done(prompt_id, received_at),
            Message::Ignored | Message::Features => {}
            Message::Unknown => tracing::debug!("ignored a message of an unknown type"),
        }
    }

    /// Applies an event to every job that follows its prompt: the one that it names, or else the one that
    /// runs.
    fn on_event(&self, named: Option<String>, event: Event, received_at: Instant) {
        let ends = matches!(event, Event::Ended(_));
        // A new socket is greeted with the node that ran last, without the prompt's id, also by a server whose worker is dead.
        if named.is_some() || matches!(event, Event::Bar { .. }) {
            self.on_sign_of_life();
        }
        let prompt_id = {
            let mut state = self.backend.state();
            if named.is_some() {
                state.socket.on_event();
            }
            let Some(prompt_id) = named.or_else(|| state.queue.current.clone()) else {
                return;
            };
            state.queue.current = (!ends).then(|| prompt_id.clone());
            prompt_id
        };
        let mut registry = self.tracker.registry();
        let jobs: Vec<JobId> = registry.of_prompt(&self.backend, &prompt_id).to_vec();
        let Some((last, others)) = jobs.split_last() else {
            self.backend.state().early_events.add(prompt_id, event);
            return;
        };
        for id in others {
            self.tracker
                .ingest_received(&mut registry, id, event.clone(), Some(received_at));
        }
        // An event can be long, and nearly always one job follows a prompt.
        self.tracker
            .ingest_received(&mut registry, last, event, Some(received_at));
        if ends {
            self.backend.reconcile_now.notify_one();
        }
    }

    fn on_done(&self, named: Option<String>, received_at: Instant) {
        self.on_sign_of_life();
        let current = self.backend.state().queue.current.take();
        let Some(prompt_id) = named.or(current) else {
            return;
        };
        let mut registry = self.tracker.registry();
        for id in registry.of_prompt(&self.backend, &prompt_id).to_vec() {
            if let Some(entry) = registry.get_mut(&id) {
                entry.comparison.work_done = true;
            }
            self.tracker
                .ingest_received(&mut registry, &id, Event::WorkDone, Some(received_at));
        }
        self.backend.reconcile_now.notify_one();
    }

    /// Applies what the text of a node shows to the jobs of the prompt that runs and has the node: it names no prompt.
    fn on_text(&self, text: NodeText) {
        let Some(sign) = text.sign() else {
            return;
        };
        let current = self.backend.state().queue.current.clone();
        let mut registry = self.tracker.registry();
        let running: Vec<JobId> = match &current {
            Some(prompt_id) => registry.of_prompt(&self.backend, prompt_id).to_vec(),
            None => {
                let open = registry.processing();
                let open = open.filter(|entry| entry.is_on(&self.backend));
                open.map(|entry| entry.job.id().clone()).collect()
            }
        };
        let having = running.into_iter().filter_map(|id| {
            let job = &registry.get(&id)?.job;
            let class = job.class_of_run(&text.node)?.to_owned();
            Some((id, class))
        });
        let having: Vec<(JobId, String)> = having.collect();
        if having.is_empty() {
            return;
        }
        self.on_sign_of_life_locked(&mut registry);
        for (id, class) in having {
            let event = self.event_of(&text.node, sign.clone(), &class);
            self.tracker.ingest_locked(&mut registry, &id, event);
        }
    }

    /// What the text of a node of a class is to a job. The words of a service are passed on only if the server says that it is
    /// one: any other node can write what looks the same.
    fn event_of(&self, node: &str, sign: NodeSign, class: &str) -> Event {
        let node = node.to_owned();
        match sign {
            NodeSign::Rounds(rounds) => Event::Rounds { node, rounds },
            NodeSign::Service { status, remaining } => {
                let classes = self.backend.node_classes();
                let is_known = classes.is_some_and(|classes| classes.partners().contains(class));
                Event::Partner {
                    node,
                    status: status.filter(|_| is_known),
                    remaining,
                }
            }
        }
    }

    fn on_preview(&self, frame: Bytes) {
        let Some(preview) = PreviewImage::parse(frame) else {
            return;
        };
        self.on_sign_of_life();
        let current = || self.backend.state().queue.current.clone();
        let Some(prompt_id) = preview.prompt_id.or_else(current) else {
            return;
        };
        let mut previews = Vec::new();
        {
            let mut registry = self.tracker.registry();
            for id in registry.of_prompt(&self.backend, &prompt_id).to_vec() {
                let Some(entry) = registry.get_mut(&id) else {
                    continue;
                };
                if entry.job.status().is_final() {
                    continue;
                }
                entry.publishing.previews += 1;
                let current = entry.job.nodes().current().map(|current| current.id);
                let preview = hub::Preview {
                    node: preview.node.as_deref().or(current).map(str::to_owned),
                    seq: entry.publishing.previews,
                    mime: preview.mime,
                    image: preview.image.clone(),
                    event: Default::default(),
                    job: id,
                };
                previews.push((preview, entry.epoch));
            }
        }
        // This task alone publishes previews of its backend: without the lock of the jobs they stay in order.
        for (preview, epoch) in previews {
            let preview = self.tracker.hub.publish_preview(preview);
            self.tracker.share_preview(&preview, epoch);
        }
    }
}

//! Keeps the node classes of a backend: read when it is connected, and again when they are to be fresh.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::comfy::NodeClasses;
use crate::relay::backend::follower::Follower;
use crate::relay::backend::{Backend, ClassReading, KnownClasses};
use crate::relay::backends::Backends;

/// How old the node classes may be when the backend is connected again in the same version: another reason than a restart
/// can end socket after socket, and the answer can be many megabytes.
const KEPT_ON_RECONNECT: Duration = Duration::from_secs(60);

/// Ends an attempt on every way out.
struct EndOfReading(Arc<Backend>);

impl Drop for EndOfReading {
    fn drop(&mut self) {
        let reading = &self.0.class_reading;
        reading.send_modify(|reading| reading.is_running = false);
    }
}

impl Follower {
    /// Reads the node classes again, unless they are those of the version that answers now, and were read a moment ago.
    pub(in crate::relay) fn refresh_node_classes(&self) {
        let is_fresh = {
            let mut state = self.backend.state();
            let version = state.api.version.clone();
            let known = state.api.node_classes.as_mut();
            let recent = known.filter(|known| known.asked_at.elapsed() < KEPT_ON_RECONNECT);
            recent.is_some_and(|known| {
                // They may have been asked for before the server had said its version for the first time.
                known.version = known.version.take().or_else(|| version.clone());
                known.version.is_some() && known.version == version
            })
        };
        if !is_fresh {
            self.read_node_classes();
        }
    }

    /// The server was away, and may have been started with other nodes: its classes are read again, however new they are.
    pub(in crate::relay) fn distrust_node_classes(&self) {
        if let Some(known) = &mut self.backend.state().api.node_classes {
            let old = known.asked_at.checked_sub(KEPT_ON_RECONNECT);
            known.asked_at = old.unwrap_or(known.asked_at);
        }
    }

    /// Reads the node classes in a task of its own, unless one does already. What is returned says when it has ended.
    pub(in crate::relay) fn read_node_classes(&self) -> watch::Receiver<ClassReading> {
        let asked_at = Instant::now();
        let mut is_first = false;
        self.backend.class_reading.send_if_modified(|reading| {
            is_first = !reading.is_running;
            if is_first {
                *reading = ClassReading {
                    began_at: Some(asked_at),
                    is_running: true,
                };
            }
            is_first
        });
        let reading = self.backend.class_reading.subscribe();
        if !is_first {
            return reading;
        }
        let end = EndOfReading(self.backend.clone());
        let (stop, tracker) = (self.stop.clone(), self.tracker.clone());
        let version = self.backend.state().api.version.clone();
        self.tasks.spawn(async move {
            let backend = &end.0;
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = backend.comfy.rest().node_classes() => read,
            };
            match read {
                // A server without any output node could not run a prompt.
                Ok(classes) if !classes.outputs().is_empty() => {
                    let known = KnownClasses {
                        version,
                        asked_at,
                        classes: shared(&tracker.backends, classes),
                    };
                    backend.state().api.node_classes = Some(known);
                    tracker.mark_partners(backend);
                }
                Ok(_) => {}
                Err(error) => {
                    let error = &error as &dyn Error;
                    tracing::debug!(
                        backend = backend.name(),
                        error,
                        "cannot read the node classes, continuing without them"
                    );
                }
            }
        });
        reading
    }
}

/// Node classes that another backend has as well are kept once: often all have the same.
fn shared(backends: &Backends, classes: NodeClasses) -> Arc<NodeClasses> {
    let mut known = backends.iter().filter_map(|it| it.node_classes());
    let same = known.find(|known| **known == classes);
    same.unwrap_or_else(|| Arc::new(classes))
}

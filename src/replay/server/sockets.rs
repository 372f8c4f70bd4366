//! [`Sockets`]: the callers' sockets, registered as ComfyUI registers them, with its faults.
//!
//! One socket a client id: a newer one displaces the older, which stays open and hears nothing. When either of them
//! closes, the registration goes, also where it was the other's.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a socket's task is told to do.
#[derive(Debug)]
pub(in crate::replay) enum Outgoing {
    /// Send a text frame.
    Text(String),
    /// Send a binary frame.
    Binary(Bytes),
    /// Say goodbye with a close frame (1000), and go.
    Close,
    /// Cut the connection without a word.
    Cut,
}

#[derive(Debug)]
struct OpenSocket {
    client: String,
    outgoing: UnboundedSender<Outgoing>,
}

/// The sockets that are open. They are numbered in the order of their opening, from 1.
#[derive(Debug, Default)]
pub(in crate::replay) struct Sockets {
    open: HashMap<u64, OpenSocket>,
    registered: HashMap<String, u64>,
    last: u64,
}

impl Sockets {
    /// A socket opened. Its queue has no bound: a caller who does not read must not stop the others' time.
    pub(in crate::replay) fn join(&mut self, client: String) -> (u64, UnboundedReceiver<Outgoing>) {
        self.last += 1;
        let (outgoing, incoming) = unbounded_channel();
        self.registered.insert(client.clone(), self.last);
        self.open.insert(self.last, OpenSocket { client, outgoing });
        (self.last, incoming)
    }

    /// A socket closed, or is no longer wanted.
    pub(in crate::replay) fn leave(&mut self, socket: u64) {
        if let Some(socket) = self.open.remove(&socket) {
            self.registered.remove(&socket.client);
        }
    }

    /// Closes a socket from our side.
    pub(in crate::replay) fn close(&mut self, socket: u64, abrupt: bool) {
        self.send(
            socket,
            if abrupt {
                Outgoing::Cut
            } else {
                Outgoing::Close
            },
        );
        self.leave(socket);
    }

    /// All sockets are gone.
    pub(in crate::replay) fn clear(&mut self) {
        self.open.clear();
        self.registered.clear();
    }

    /// The socket that hears what is meant for `client`.
    pub(in crate::replay) fn of(&self, client: &str) -> Option<u64> {
        self.registered.get(client).copied()
    }

    /// Every registered client with its socket.
    pub(in crate::replay) fn registered(&self) -> impl Iterator<Item = (&str, u64)> {
        self.registered
            .iter()
            .map(|(client, socket)| (client.as_str(), *socket))
    }

    /// Gives a frame to a socket; to one that is gone, it is lost.
    pub(in crate::replay) fn send(&self, socket: u64, outgoing: Outgoing) {
        if let Some(socket) = self.open.get(&socket) {
            let _ = socket.outgoing.send(outgoing);
        }
    }

    /// Gives a text frame to everybody.
    pub(in crate::replay) fn broadcast(&self, text: &str) {
        for (_, socket) in self.registered() {
            self.send(socket, Outgoing::Text(text.to_owned()));
        }
    }
}

//! [`Sockets`]: the clients' sockets, registered as ComfyUI registers them, bugs included.
//!
//! One socket is registered for each client id. A newer socket displaces an older one, which stays open but receives
//! nothing. When either of them closes, the registration is removed, even if it is the other's.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a socket's task must do.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Send a text frame.
    Text(String),
    /// Send a binary frame.
    Binary(Bytes),
    /// Close the socket with a close frame (1000).
    Close,
    /// Close the connection without a close frame.
    Abort,
}

#[derive(Debug)]
struct OpenSocket {
    client_id: String,
    outgoing: UnboundedSender<Outgoing>,
}

/// The open sockets, numbered from 1 in the order in which they were opened.
#[derive(Debug, Default)]
pub(in crate::replay) struct Sockets {
    open: HashMap<u64, OpenSocket>,
    registered: HashMap<String, u64>,
    last: u64,
}

impl Sockets {
    /// Adds and registers a socket that opened. Its queue is unbounded: a client that does not read must not hold the
    /// others up.
    pub(super) fn add(&mut self, client_id: String) -> (u64, UnboundedReceiver<Outgoing>) {
        self.last += 1;
        let (outgoing, incoming) = unbounded_channel();
        self.registered.insert(client_id.clone(), self.last);
        let socket = OpenSocket {
            client_id,
            outgoing,
        };
        self.open.insert(self.last, socket);
        (self.last, incoming)
    }

    /// Removes a socket that closed.
    pub(super) fn remove(&mut self, socket: u64) {
        if let Some(socket) = self.open.remove(&socket) {
            self.registered.remove(&socket.client_id);
        }
    }

    /// Closes a socket, with a close frame unless `abrupt`.
    pub(super) fn close(&mut self, socket: u64, abrupt: bool) {
        let outgoing = if abrupt {
            Outgoing::Abort
        } else {
            Outgoing::Close
        };
        self.send(socket, outgoing);
        self.remove(socket);
    }

    /// Closes all sockets.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.registered.clear();
    }

    /// The socket that receives what is sent to `client_id`.
    pub(in crate::replay) fn registered_as(&self, client_id: &str) -> Option<u64> {
        self.registered.get(client_id).copied()
    }

    /// Every registered client id with its socket.
    pub(in crate::replay) fn registered(&self) -> impl Iterator<Item = (&str, u64)> {
        self.registered
            .iter()
            .map(|(client_id, socket)| (client_id.as_str(), *socket))
    }

    /// Sends to a socket. What is sent to a closed one is lost.
    pub(super) fn send(&self, socket: u64, outgoing: Outgoing) {
        if let Some(socket) = self.open.get(&socket) {
            let _ = socket.outgoing.send(outgoing);
        }
    }

    /// Sends a text frame to every registered client.
    pub(super) fn broadcast(&self, text: &str) {
        for (_, socket) in self.registered() {
            self.send(socket, Outgoing::Text(text.to_owned()));
        }
    }
}

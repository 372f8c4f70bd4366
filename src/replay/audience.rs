//! [`Audience`]: the callers' sockets, registered as ComfyUI registers them, with its faults.
//!
//! One socket a client id: a newer one displaces the older, which stays open and hears nothing. When either of them
//! closes, the registration goes, also where it was the other's.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a socket's task is told to do.
#[derive(Debug)]
pub(super) enum Outgoing {
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
struct Seat {
    client: String,
    outgoing: UnboundedSender<Outgoing>,
}

/// The sockets that are open. They are numbered in the order of their opening, from 1.
#[derive(Debug, Default)]
pub(super) struct Audience {
    seats: HashMap<u64, Seat>,
    registered: HashMap<String, u64>,
    last: u64,
}

impl Audience {
    /// A socket opened. Its queue has no bound: a caller who does not read must not stop the others' time.
    pub(super) fn join(&mut self, client: String) -> (u64, UnboundedReceiver<Outgoing>) {
        self.last += 1;
        let (outgoing, incoming) = unbounded_channel();
        self.registered.insert(client.clone(), self.last);
        self.seats.insert(self.last, Seat { client, outgoing });
        (self.last, incoming)
    }

    /// A socket closed, or is no longer wanted.
    pub(super) fn leave(&mut self, socket: u64) {
        if let Some(seat) = self.seats.remove(&socket) {
            self.registered.remove(&seat.client);
        }
    }

    /// Closes a socket from our side.
    pub(super) fn close(&mut self, socket: u64, abrupt: bool) {
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
    pub(super) fn clear(&mut self) {
        self.seats.clear();
        self.registered.clear();
    }

    /// The socket that hears what is meant for `client`.
    pub(super) fn of(&self, client: &str) -> Option<u64> {
        self.registered.get(client).copied()
    }

    /// Every registered client with its socket.
    pub(super) fn registered(&self) -> impl Iterator<Item = (&str, u64)> {
        self.registered
            .iter()
            .map(|(client, socket)| (client.as_str(), *socket))
    }

    /// Gives a frame to a socket; to one that is gone, it is lost.
    pub(super) fn send(&self, socket: u64, outgoing: Outgoing) {
        if let Some(seat) = self.seats.get(&socket) {
            let _ = seat.outgoing.send(outgoing);
        }
    }

    /// Gives a text frame to everybody.
    pub(super) fn broadcast(&self, text: &str) {
        for (_, socket) in self.registered() {
            self.send(socket, Outgoing::Text(text.to_owned()));
        }
    }
}

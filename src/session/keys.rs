use mio::Token;
use slotmap::{Key as _, KeyData, new_key_type};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a subscriber's key has 64 bits and must fit into a token");

new_key_type! {
    /// A subscriber in its shard.
    pub(super) struct SubscriberKey;
    /// A topic in its shard.
    pub(super) struct TopicKey;
}

impl SubscriberKey {
    /// Marks the events of the subscriber's socket.
    pub(super) fn token(self) -> Token {
        Token(self.data().as_ffi() as usize)
    }

    /// The subscriber whose socket an event is about.
    pub(super) fn of_token(token: Token) -> Self {
        KeyData::from_ffi(token.0 as u64).into()
    }
}

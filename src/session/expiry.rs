use std::cmp::Reverse;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use slotmap::DefaultKey as Key;

use super::disconnect::Disconnect;
use super::message::ServerMessage;
use super::thread::Shard;
use crate::auth::{AuthError, Token};

/// How long it may take until a clock on the wall that was set is noticed.
const MAX_WAIT: Duration = Duration::from_secs(60);

impl Shard {
    /// Has a subscriber looked at when its token may have expired.
    pub(super) fn watch_expiry(&mut self, who: Key, now: Instant) {
        let subscriber = &mut self.subscribers[who];
        let Some(expires_at) = subscriber.admission.permissions.expires_at() else {
            return;
        };
        let left = Duration::try_from(expires_at.duration_since(Timestamp::now()));
        let due = now + left.unwrap_or_default().min(MAX_WAIT);
        subscriber.expiry = Some(due);
        self.expiries.push(Reverse((due, who)));
    }

    /// Takes leave of those whose tokens have expired.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&Reverse((due, who))) = self.expiries.peek()
            && due <= now
        {
            self.expiries.pop();
            if !self.is_open(who) {
                continue;
            }
            let subscriber = &self.subscribers[who];
            // A newer token has been sent since.
            if subscriber.expiry != Some(due) {
                continue;
            }
            let expires_at = subscriber.admission.permissions.expires_at();
            if expires_at.is_some_and(|expires_at| expires_at > Timestamp::now()) {
                self.watch_expiry(who, now);
                continue;
            }
            let job = subscriber.job.clone();
            let told = self.complain(who, &job, &AuthError::Expired.into());
            self.end(who, told.err().unwrap_or(Disconnect::EXPIRED));
        }
    }

    /// Lets a subscriber go on with a newer token.
    pub(super) fn renew(&mut self, who: Key, token: &Token) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[who];
        match subscriber
            .admission
            .permissions
            .renew(&self.context.verifier, token)
        {
            Ok(()) => {
                let expires_at = subscriber.admission.permissions.expires_at();
                self.watch_expiry(who, Instant::now());
                self.say(who, &ServerMessage::auth(expires_at))
            }
            Err(failure) => {
                let job = subscriber.job.clone();
                self.complain(who, &job, &failure.into())
            }
        }
    }
}

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use slotmap::DefaultKey as Key;

use super::disconnect::Disconnect;
use super::event_loop::Shard;
use super::message::ServerMessage;
use crate::auth::{AuthError, Token};

/// How long it may take until a clock on the wall that was set is noticed.
const MAX_WAIT: Duration = Duration::from_secs(60);

impl Shard {
    /// Has a subscriber looked at when its token may have expired.
    pub(super) fn schedule_token_check(&mut self, key: Key, now: Instant) {
        let subscriber = &mut self.subscribers[key];
        let Some(expires_at) = subscriber.admission.permissions.expires_at() else {
            return;
        };
        let left = Duration::try_from(expires_at.duration_since(Timestamp::now()));
        let due = now + left.unwrap_or_default().min(MAX_WAIT);
        subscriber.token_check_at = Some(due);
        self.token_checks.push(Reverse((due, key)));
    }

    /// Takes leave of those whose tokens have expired.
    pub(super) fn close_expired(&mut self, now: Instant) {
        while let Some(&Reverse((due, key))) = self.token_checks.peek()
            && due <= now
        {
            self.token_checks.pop();
            if !self.is_open(key) {
                continue;
            }
            let subscriber = &self.subscribers[key];
            // A newer token has been sent since.
            if subscriber.token_check_at != Some(due) {
                continue;
            }
            let expires_at = subscriber.admission.permissions.expires_at();
            if expires_at.is_some_and(|expires_at| expires_at > Timestamp::now()) {
                self.schedule_token_check(key, now);
                continue;
            }
            let job = subscriber.job.clone();
            let told = self.send_error(key, &job, &AuthError::Expired.into());
            self.disconnect(key, told.err().unwrap_or(Disconnect::EXPIRED));
        }
    }

    /// Lets a subscriber go on with a newer token.
    pub(super) fn renew_token(&mut self, key: Key, token: &Token) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[key];
        let permissions = &mut subscriber.admission.permissions;
        match self.context.verifier.renew(permissions, token) {
            Ok(()) => {
                let expires_at = subscriber.admission.permissions.expires_at();
                self.schedule_token_check(key, Instant::now());
                self.send_message(key, &ServerMessage::auth(expires_at))
            }
            Err(failure) => {
                let job = subscriber.job.clone();
                self.send_error(key, &job, &failure.into())
            }
        }
    }
}

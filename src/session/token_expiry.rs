use std::cmp::Reverse;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::disconnect::Disconnect;
use super::event_loop::Shard;
use super::keys::SubscriberKey;
use super::message::ServerMessage;
use crate::auth::{AuthError, Token};

/// The longest time between two checks of a token: if the wall clock is set, its expiry moves.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(60);

impl Shard {
    /// Has a subscriber's token checked when it may have expired.
    pub(super) fn schedule_token_check(&mut self, key: SubscriberKey, now: Instant) {
        let subscriber = &mut self.subscribers[key];
        let Some(expires_at) = subscriber.admission.permissions.expires_at() else {
            return;
        };
        let left = Duration::try_from(expires_at.duration_since(Timestamp::now()));
        let due = now + left.unwrap_or_default().min(MAX_CHECK_INTERVAL);
        subscriber.token_check_at = Some(due);
        self.token_checks.push(Reverse((due, key)));
    }

    /// Closes the sockets of subscribers whose tokens have expired.
    pub(super) fn close_expired(&mut self, now: Instant) {
        while let Some(&Reverse((due, key))) = self.token_checks.peek()
            && due <= now
        {
            self.token_checks.pop();
            if !self.is_open(key) {
                continue;
            }
            let subscriber = &self.subscribers[key];
            // The token was renewed since, which scheduled another check.
            if subscriber.token_check_at != Some(due) {
                continue;
            }
            let expires_at = subscriber.admission.permissions.expires_at();
            if expires_at.is_some_and(|expires_at| expires_at > Timestamp::now()) {
                self.schedule_token_check(key, now);
                continue;
            }
            let job = subscriber.job.clone();
            let sent = self.send_error(key, &job, &AuthError::Expired.into());
            self.disconnect(key, sent.err().unwrap_or(Disconnect::EXPIRED));
        }
    }

    /// Replaces a subscriber's token with a newer one.
    pub(super) fn renew_token(
        &mut self,
        key: SubscriberKey,
        token: &Token,
    ) -> Result<(), Disconnect> {
        let subscriber = &mut self.subscribers[key];
        let permissions = &mut subscriber.admission.permissions;
        match self.context.verifier.renew(permissions, token) {
            Ok(()) => {
                let expires_at = permissions.expires_at();
                self.schedule_token_check(key, Instant::now());
                self.send_message(key, &ServerMessage::auth(expires_at))
            }
            Err(error) => {
                let job = subscriber.job.clone();
                self.send_error(key, &job, &error.into())
            }
        }
    }
}

//! Links that open one file of one job without a token, until they expire.
//!
//! A browser sends no header for an `<img>`. A link is signed with a key that is derived from a secret: one of its own, or that
//! of the tokens, so that neither can be made of the other.

use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::error::AuthError;
use super::key_set::KeysError;
use crate::job::JobId;

/// What the key is derived for. A link of another version would be another text.
const PURPOSE: &[u8] = b"comfy-relay: signed link to an output, version 1";

/// The key that links are signed with.
#[derive(Debug)]
pub(super) struct LinkKey(hmac::Key);

/// What a link is signed for, with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedLink {
    /// Until when it opens the file, in seconds since 1970.
    pub(crate) expires_at: i64,
    /// In base64 for URLs.
    pub(crate) signature: String,
}

impl LinkKey {
    /// The key that belongs to a secret.
    pub(super) fn of(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&secret, PURPOSE);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// A key that nobody else has: its links hold until the relay stops.
    pub(super) fn random() -> Result<Self, KeysError> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| KeysError::NoRandomness)?;
        Ok(Self::of(&secret))
    }

    /// A link to the file with this number.
    pub(super) fn sign(&self, job: &JobId, number: usize, expires_at: Timestamp) -> SignedLink {
        let expires_at = expires_at.as_second();
        let signature = hmac::sign(&self.0, signed_text(job, number, expires_at).as_bytes());
        SignedLink {
            expires_at,
            signature: BASE64_URL_SAFE_NO_PAD.encode(signature),
        }
    }

    /// Refuses a link that is not for this file, or has expired.
    pub(super) fn check(
        &self,
        job: &JobId,
        number: usize,
        link: &SignedLink,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(&link.signature);
        let signature = signature.map_err(|_| AuthError::BadLink)?;
        let text = signed_text(job, number, link.expires_at);
        // In constant time.
        hmac::verify(&self.0, text.as_bytes(), &signature).map_err(|_| AuthError::BadLink)?;
        if now.as_second() >= link.expires_at {
            return Err(AuthError::LinkExpired);
        }
        Ok(())
    }
}

/// No part can run into the next: a job id has no line breaks.
fn signed_text(job: &JobId, number: usize, expires_at: i64) -> String {
    format!("{job}\n{number}\n{expires_at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_link_opens_its_file_until_it_expires_and_no_other() {
        let (key, job) = (LinkKey::of(b"secret"), JobId::parse("shot-1").unwrap());
        let link = key.sign(&job, 2, at(1_000));
        assert_eq!(key.check(&job, 2, &link, at(999)), Ok(()));
        let late = key.check(&job, 2, &link, at(1_000));
        assert_eq!(late, Err(AuthError::LinkExpired));
        let bad = Err(AuthError::BadLink);
        assert_eq!(key.check(&job, 1, &link, at(999)), bad);
        let other = JobId::parse("shot-12").unwrap();
        assert_eq!(key.check(&other, 2, &link, at(999)), bad);
        assert_eq!(LinkKey::of(b"other").check(&job, 2, &link, at(999)), bad);
        let longer = SignedLink {
            expires_at: 2_000,
            ..link.clone()
        };
        assert_eq!(key.check(&job, 2, &longer, at(999)), bad);
        for signature in ["", "0", "zz", &link.signature[2..], "ä0"] {
            let wrong = SignedLink {
                signature: signature.to_owned(),
                ..link.clone()
            };
            assert_eq!(key.check(&job, 2, &wrong, at(999)), bad, "{signature}");
        }
    }
}

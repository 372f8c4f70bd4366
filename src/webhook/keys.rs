//! [`SigningKeys`]: the secrets that sign webhooks, and check signatures.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

use crate::config::Secret;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The fewest bytes of a key, and the most.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The version of symmetric signatures.
const VERSION: &str = "v1";

/// How far the clock of the sender may be off: an old message that somebody repeats is refused.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The keys of webhooks. Each signs, so that a receiver accepts the old or the new one while it is replaced.
#[derive(Clone)]
pub struct SigningKeys(Vec<hmac::Key>);

/// Why a secret is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret of webhooks is whsec_ and 24 to 64 bytes in base64, or several of them with spaces between; make one with: \
     echo whsec_$(openssl rand -base64 32)"
)]
pub struct KeyError;

/// Why a message is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The header with the time holds none.
    #[error("webhook-timestamp is not a time in seconds since 1970")]
    Timestamp,
    /// It was signed too long ago, or in the future.
    #[error("it was signed {0} s ago: more than {max} s off, so it may be a repetition", max = TOLERANCE.as_secs())]
    Age(i64),
    /// No signature is by one of the keys.
    #[error("no signature in webhook-signature is by this secret over this id, time and body")]
    Signature,
}

impl SigningKeys {
    /// Reads a secret, or several with spaces between them.
    pub fn parse(secret: &Secret) -> Result<Self, KeyError> {
        let keys: Vec<hmac::Key> = secret
            .expose()
            .split_whitespace()
            .map(|secret| {
                let text = secret.strip_prefix(PREFIX).ok_or(KeyError)?;
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| KeyError)?;
                if !KEY_BYTES.contains(&bytes.len()) {
                    return Err(KeyError);
                }
                Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
            })
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(KeyError);
        }
        Ok(Self(keys))
    }

    /// The header `webhook-signature` of a message that is sent at a second since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signed = signed(id, timestamp, body.as_bytes());
        let signatures = self.0.iter().map(|key| {
            let signature = hmac::sign(key, &signed);
            format!("{VERSION},{}", BASE64_STANDARD.encode(signature.as_ref()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// Checks a message by its headers, which are as they came.
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let timestamp: i64 = timestamp
            .trim()
            .parse()
            .map_err(|_| VerifyError::Timestamp)?;
        let age = now.as_second().saturating_sub(timestamp);
        if age.unsigned_abs() > TOLERANCE.as_secs() {
            return Err(VerifyError::Age(age));
        }
        let signed = signed(id.trim(), timestamp, body);
        let is_by = |signature: &[u8]| {
            let mut keys = self.0.iter();
            keys.any(|key| hmac::verify(key, &signed, signature).is_ok())
        };
        let mut known = signatures.split_whitespace().filter_map(|signature| {
            let (version, text) = signature.split_once(',')?;
            (version == VERSION).then(|| BASE64_STANDARD.decode(text).ok())?
        });
        if known.any(|signature| is_by(&signature)) {
            Ok(())
        } else {
            Err(VerifyError::Signature)
        }
    }
}

/// Without the keys.
impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").finish_non_exhaustive()
    }
}

/// What is signed of a message.
fn signed(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    signed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SigningKeys {
        SigningKeys::parse(&Secret::from(text.to_owned())).unwrap()
    }

    /// The example that the libraries of Standard Webhooks test themselves with.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let keys = keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = r#"{"test": 2432232314}"#;
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_message_is_accepted_by_either_key_and_only_as_it_was_signed() {
        let (old, new) = (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        );
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let signature = keys(&format!("{new} {old}")).sign("msg_1", now.as_second(), "{}");
        for key in [old, new] {
            let check = |id: &str, time: &str, signature: &str, body: &[u8]| {
                keys(key).verify(id, time, signature, body, now)
            };
            let (time, early) = ("1800000000", "1799999600");
            assert_eq!(check("msg_1", time, &signature, b"{}"), Ok(()));
            let wrong = Err(VerifyError::Signature);
            assert_eq!(check("msg_2", time, &signature, b"{}"), wrong);
            assert_eq!(check("msg_1", "1800000001", &signature, b"{}"), wrong);
            assert_eq!(check("msg_1", time, &signature, b"{ }"), wrong);
            assert_eq!(
                check("msg_1", time, &signature.replace("v1,", "v2,"), b"{}"),
                wrong
            );
            assert_eq!(check("msg_1", time, "v1,!! v1", b"{}"), wrong);
            let old = Err(VerifyError::Age(400));
            assert_eq!(check("msg_1", early, &signature, b"{}"), old);
            assert_eq!(
                check("msg_1", "now", &signature, b"{}"),
                Err(VerifyError::Timestamp)
            );
        }
    }

    #[test]
    fn a_short_or_garbled_secret_is_refused() {
        for text in [
            "",
            " ",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_!!",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            let parsed = SigningKeys::parse(&Secret::from(text.to_owned()));
            assert_eq!(parsed.map(drop), Err(KeyError), "{text}");
        }
    }
}

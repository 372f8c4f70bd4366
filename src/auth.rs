//! JSON Web Tokens: which keys verify them, and what they permit.
//!
//! Deliberately absent: HTTP. Where a request carries its token, and how a refusal is answered, is the
//! server's business.

mod error;
mod keys;
mod permissions;
mod token;
mod verifier;

pub(crate) use error::AuthError;
pub use keys::KeysError;
pub(crate) use permissions::{Permissions, Scope};
pub use token::Token;
pub(crate) use verifier::Verifier;

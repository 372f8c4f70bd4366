//! JSON Web Tokens: which keys verify them, and what they permit.
//!
//! No HTTP here: `server/security` finds the token in a request and answers a refusal.

mod claims;
mod error;
mod grant;
mod key_set;
mod links;
mod permissions;
mod token;
mod verifier;

pub(crate) use claims::Claims;
pub(crate) use error::AuthError;
pub(crate) use grant::{Grant, IssueError};
pub use key_set::KeysError;
pub(crate) use links::SignedLink;
pub(crate) use permissions::{Permissions, Scope};
pub use token::Token;
pub(crate) use verifier::Verifier;

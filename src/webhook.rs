//! Webhooks by [Standard Webhooks](https://www.standardwebhooks.com): what is sent, how it is signed, and one request. What is
//! to be sent lies in the database: see the store.

mod body;
mod keys;
mod sender;

pub use body::{ApiEvent, WebhookBody, body, message_id};
pub use keys::{KeyError, SigningKeys, VerifyError};
pub use sender::{ID, SIGNATURE, SenderError, TIMESTAMP, WebhookAnswer, WebhookSender};

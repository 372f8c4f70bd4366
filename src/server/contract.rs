//! What clients are promised, in a form that programs read: the OpenAPI and the AsyncAPI document.

pub(super) mod asyncapi;
mod channel;
pub(super) mod endpoint;
pub(super) mod openapi;
pub(super) mod parameter;
pub(super) mod schemas;
mod webhook_events;

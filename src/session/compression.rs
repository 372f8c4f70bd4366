//! `permessage-deflate` (RFC 7692): what is agreed with a client, and the inflation of what it sends.

pub(crate) mod deflate;
pub(super) mod inflate;

//! `permessage-deflate` (RFC 7692): its negotiation, the compression of the server's messages, and the
//! decompression of the clients'.

pub(super) mod deflate;
pub(super) mod inflate;
pub(crate) mod negotiation;

/// The end of the empty block that a flush appends. A sender leaves it out at the end of a message, and
/// the receiver adds it (RFC 7692, 7.2.1 and 7.2.2).
const BLOCK_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

//! The codes with which sockets are closed, as documented.

/// The job has ended, or the client has left.
pub(crate) const NORMAL: u16 = 1000;
/// The server goes away: reconnect.
pub(crate) const GOING_AWAY: u16 = 1001;
/// The client broke the WebSocket protocol.
pub(crate) const PROTOCOL: u16 = 1002;
/// The client sent a message that is not what it says to be.
pub(crate) const INVALID: u16 = 1007;
/// The client sent what it may not send.
pub(crate) const POLICY: u16 = 1008;
/// The client sent too much.
pub(crate) const TOO_BIG: u16 = 1009;
/// What cannot be done now may be possible later.
pub(crate) const TRY_LATER: u16 = 1013;
/// Nobody knows who the client is, or no longer.
pub(crate) const UNAUTHENTICATED: u16 = 4401;
/// It is known who the client is, and that it may not do this.
pub(crate) const FORBIDDEN: u16 = 4403;
/// There is no such job, and none came.
pub(crate) const JOB_NOT_FOUND: u16 = 4404;

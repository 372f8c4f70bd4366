//! The documented close codes of sockets: those of RFC 6455 (7.4.1), and 4000 + HTTP status for the
//! reasons that it does not know.

/// The job has ended, or the client has left.
pub(crate) const NORMAL: u16 = 1000;
/// The server goes away: reconnect.
pub(crate) const GOING_AWAY: u16 = 1001;
/// The client broke the WebSocket protocol.
pub(crate) const PROTOCOL: u16 = 1002;
/// The content of a client's message does not fit its type.
pub(crate) const INVALID: u16 = 1007;
/// The client sent what it must not send.
pub(crate) const POLICY: u16 = 1008;
/// The client sent a message that is too long.
pub(crate) const TOO_BIG: u16 = 1009;
/// Not possible now: try again later.
pub(crate) const TRY_LATER: u16 = 1013;
/// The client's token is missing, invalid, or expired.
pub(crate) const UNAUTHENTICATED: u16 = 4401;
/// The client's token does not allow this.
pub(crate) const FORBIDDEN: u16 = 4403;
/// There is no such job, and none was registered in time.
pub(crate) const JOB_NOT_FOUND: u16 = 4404;

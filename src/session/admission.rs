use super::permits::ConnectionPermit;
use crate::auth::Permissions;

/// What a session is admitted with. Small, because every subscriber holds one.
#[derive(Debug)]
pub(crate) struct Admission {
    /// What its client may do, and until when.
    pub(crate) permissions: Permissions,
    /// Held until the session ends: that of the connection, and, behind a trusted proxy, the client's own.
    pub(crate) _permits: [Option<ConnectionPermit>; 2],
}

use super::permits::ConnectionPermit;
use crate::auth::Permissions;

/// What a session is authorised by, and holds until it ends. Small: every subscriber has one.
#[derive(Debug)]
pub(crate) struct Admission {
    /// What its client may do, and until when.
    pub(crate) permissions: Permissions,
    /// The permit of the connection, and, behind a trusted proxy, that of the client.
    pub(crate) _permits: [Option<ConnectionPermit>; 2],
}

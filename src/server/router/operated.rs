//! The paths on which operators stop and resume backends.

use crate::relay::Operation;

/// What a backend is to do, by the last part of the path.
pub(super) const OPERATIONS: [(&str, Operation); 3] = [
    ("pause", Operation::Pause),
    ("resume", Operation::Run),
    ("drain", Operation::Drain),
];

/// The name of a backend and what it is to do, of a path that asks for that. A name can hold slashes, which some proxies
/// decode.
pub(super) fn operated_backend(path: &str) -> Option<(&str, Operation)> {
    let (name, verb) = path
        .strip_prefix("/api/anime/backends/")?
        .rsplit_once('/')?;
    let mut operations = OPERATIONS.into_iter();
    let (_, operation) = operations.find(|(known, _)| *known == verb)?;
    Some((name, operation))
}

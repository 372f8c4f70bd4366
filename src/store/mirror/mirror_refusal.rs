//! [`MirrorRefusal`]: what the pipeline's table does not take.

use crate::store::database::StoreError;

/// Why a column of a row cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct MirrorRefusal {
    /// The column; `row` for the whole row.
    pub(super) column: String,
    /// The database's own reason.
    pub(super) reason: String,
}

impl MirrorRefusal {
    pub(super) fn of(column: &str, error: &StoreError) -> Self {
        let reason = match error {
            StoreError::Query(diesel::result::Error::DatabaseError(_, information)) => {
                information.message().to_owned()
            }
            error => error.to_string(),
        };
        Self {
            column: column.to_owned(),
            reason,
        }
    }
}

//! Colours of jobs.

use console::Style;

use crate::job::Status;

/// What a job with a status looks like on standard output.
pub(super) fn status_style(status: Status) -> Style {
    match status {
        Status::Completed => Style::new().green(),
        Status::Failed => Style::new().red(),
        Status::Cancelled => Style::new().yellow(),
        Status::Queued | Status::Processing => Style::new(),
    }
}

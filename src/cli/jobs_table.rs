//! Jobs as a table.

use serde_json::Value;

use super::duration::duration;
use super::status_style::status_style;
use super::table::{Cell, Table};
use crate::job::Status;

/// The jobs of a page of the relay's list, one a line.
pub(super) fn text(page: &Value) -> String {
    let mut table = Table::new(&["JOB", "STATUS", "", "LEFT", "MESSAGE", "SERVER"]);
    for job in page["jobs"].as_array().into_iter().flatten() {
        let word = |name: &str| job[name].as_str().unwrap_or_default();
        let status = Cell::new(word("status"));
        let left = job["estimated_remaining"]
            .as_u64()
            .filter(|_| job["completed_at"].is_null());
        table.add(vec![
            Cell::new(word("job_id")),
            match Status::from_word(word("status")) {
                Some(known) => status.styled(status_style(known)),
                None => status,
            },
            Cell::new(&format!(
                "{:>3} %",
                job["progress"].as_u64().unwrap_or_default()
            )),
            Cell::new(&left.map(duration).unwrap_or_default()),
            Cell::new(word("message")),
            Cell::new(word("backend")),
        ]);
    }
    table.lines().join("\n") + "\n"
}

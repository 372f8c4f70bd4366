//! [`LeaseOwner`]: the name of a process that holds leases.

use std::fs;
use std::sync::LazyLock;

use uuid::Uuid;

/// The unique name of a relay that holds leases. It names the process too: a relay that is started on the same machine
/// after a crash sees that the owner is dead, and takes the lease at once instead of waiting for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOwner(String);

/// How much of the unique name people see.
const LABEL_CHARS: usize = 8;

/// The name of this machine or container, where it is known.
static HOST: LazyLock<Option<String>> = LazyLock::new(|| {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
});

/// Separates the unique part of a name from the process.
const SEPARATOR: char = '@';

impl LeaseOwner {
    /// A new name for this process.
    pub fn new() -> Self {
        let id = Uuid::new_v4();
        Self(match Process::own() {
            Some(Process {
                machine,
                id: pid,
                started,
            }) => {
                format!("{id}{SEPARATOR}{machine} {pid} {started}")
            }
            None => id.to_string(),
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A part of the unique name. It says nothing of the machine.
    pub fn short_id(&self) -> String {
        self.0.chars().take(LABEL_CHARS).collect()
    }

    /// The name for people: the machine's, and a part of the unique one.
    pub fn label(&self) -> String {
        let unique = self.short_id();
        match HOST.as_deref() {
            Some(host) => format!("{host}-{unique}"),
            None => unique,
        }
    }

    /// Whether the process with this name is known to be dead. That is unknown, and so `false`, for a process on another
    /// machine or in another container, and on systems without `/proc`.
    pub(super) fn is_dead(name: &str) -> bool {
        let Some((_, process)) = name.split_once(SEPARATOR) else {
            return false;
        };
        let [machine, id, started] = process.split(' ').collect::<Vec<_>>()[..] else {
            return false;
        };
        machine_id().is_some_and(|own| own == machine) && start_time(id).as_deref() != Some(started)
    }
}

impl Default for LeaseOwner {
    fn default() -> Self {
        Self::new()
    }
}

/// A process on Linux.
struct Process {
    machine: String,
    id: u32,
    started: String,
}

impl Process {
    fn own() -> Option<Self> {
        let id = std::process::id();
        Some(Self {
            machine: machine_id()?,
            id,
            started: start_time(&id.to_string())?,
        })
    }
}

/// The boot of this machine, and the PID namespace in which process ids are valid.
fn machine_id() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let container = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), container.display()))
}

/// When a process started, in clock ticks since boot (`proc_pid_stat(5)`, field 22). `None` if it is gone or a zombie.
/// Tells two processes apart that have had the same id.
fn start_time(id: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if ["Z", "X"].contains(&fields.next()?) {
        return None;
    }
    Some(fields.nth(18)?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_are_unique_and_this_process_is_not_dead() {
        let (one, other) = (LeaseOwner::new(), LeaseOwner::new());
        assert_ne!(one, other);
        assert!(!LeaseOwner::is_dead(one.as_str()));
    }

    #[test]
    fn other_machines_are_not_known_to_be_dead() {
        for name in ["", "x", "x@", "x@elsewhere 1 2", "x@a b", "x@a b c d"] {
            assert!(!LeaseOwner::is_dead(name), "{name}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_has_ended_is_dead() {
        let mut sleeper = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let id = sleeper.id().to_string();
        let name = format!(
            "x@{} {id} {}",
            machine_id().unwrap(),
            start_time(&id).unwrap()
        );
        assert!(!LeaseOwner::is_dead(&name));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(LeaseOwner::is_dead(&name));
        // The id may belong to another process by now.
        let own = format!("x@{} {} 1", machine_id().unwrap(), std::process::id());
        assert!(LeaseOwner::is_dead(&own));
    }
}

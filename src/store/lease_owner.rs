use std::fs;

use uuid::Uuid;

/// The name of a relay that holds leases: no other has the same, and who runs on the same machine can
/// tell by it whether its process is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOwner(String);

/// Between the unique part of a name and the process.
const MARK: char = '@';

impl LeaseOwner {
    /// A fresh name of this process.
    pub fn new() -> Self {
        let id = Uuid::new_v4();
        Self(match Process::own() {
            Some(Process {
                machine,
                id: pid,
                started,
            }) => {
                format!("{id}{MARK}{machine} {pid} {started}")
            }
            None => id.to_string(),
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the process that has this name is known to be dead. Of those of another machine, and where
    /// processes cannot be looked at, nobody knows.
    pub(super) fn is_dead(name: &str) -> bool {
        let Some((_, process)) = name.split_once(MARK) else {
            return false;
        };
        let [machine, id, started] = process.split(' ').collect::<Vec<_>>()[..] else {
            return false;
        };
        machine_name().is_some_and(|own| own == machine) && start(id).as_deref() != Some(started)
    }
}

impl Default for LeaseOwner {
    fn default() -> Self {
        Self::new()
    }
}

/// A process, as Linux tells it.
struct Process {
    machine: String,
    id: u32,
    started: String,
}

impl Process {
    fn own() -> Option<Self> {
        let id = std::process::id();
        Some(Self {
            machine: machine_name()?,
            id,
            started: start(&id.to_string())?,
        })
    }
}

/// This boot of the machine, and the container in it whose process ids are meant.
fn machine_name() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let container = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), container.display()))
}

/// When a process started; `None` where it is not there, or only its remains. Ids are used again.
fn start(id: &str) -> Option<String> {
    let told = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses can hold anything.
    let (_, fields) = told.rsplit_once(") ")?;
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
    fn nobody_else_has_the_same_name_and_the_living_are_not_dead() {
        let (one, other) = (LeaseOwner::new(), LeaseOwner::new());
        assert_ne!(one, other);
        assert!(!LeaseOwner::is_dead(one.as_str()));
    }

    #[test]
    fn of_strangers_nobody_knows() {
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
        let name = format!("x@{} {id} {}", machine_name().unwrap(), start(&id).unwrap());
        assert!(!LeaseOwner::is_dead(&name));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(LeaseOwner::is_dead(&name));
        // Its id may be somebody else's by now.
        let own = format!("x@{} {} 1", machine_name().unwrap(), std::process::id());
        assert!(LeaseOwner::is_dead(&own));
    }
}

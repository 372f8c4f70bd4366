//! libpq's password file: lines of `HOST:PORT:DATABASE:USER:PASSWORD`.

use std::path::Path;

use crate::config::{PostgresHost, Secret};

/// What a password is looked up for.
pub(super) struct PassFileQuery<'a> {
    pub(super) host: &'a PostgresHost,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password for a connection; `None` if no line fits, or there is no such file. Fails with the reason if the file
/// is there and must not or cannot be used.
pub(super) fn find(path: &Path, query: &PassFileQuery<'_>) -> Result<Option<Secret>, String> {
    let ignored = |reason: &str| format!("{} is not used: {reason}", path.display());
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(None);
    };
    if !metadata.is_file() {
        return Err(ignored("it is no file"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
        return Err(ignored("others may read it (chmod 600)"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| ignored(&error.to_string()))?;
    Ok(text.lines().find_map(|line| query.password(line)))
}

impl PassFileQuery<'_> {
    /// The password of a line that fits.
    fn password(&self, line: &str) -> Option<Secret> {
        if line.starts_with('#') {
            return None;
        }
        let (host, rest) = next_field(line)?;
        let (port, rest) = next_field(rest)?;
        let (database, rest) = next_field(rest)?;
        let (user, rest) = next_field(rest)?;
        // A colon in the password needs no backslash.
        let password = unescape(rest);
        let is_host = host == "*"
            || unescape(host) == self.host.name
            || (self.host.is_socket() && host == "localhost");
        let fits = is_host
            && (port == "*" || port == self.host.port.to_string())
            && (database == "*" || unescape(database) == self.database)
            && (user == "*" || unescape(user) == self.user);
        fits.then(|| password.into())
    }
}

/// What stands before the first colon without a backslash, and what follows it.
fn next_field(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ':' if !is_escaped => return Some((&text[..at], &text[at + 1..])),
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    None
}

/// Takes the character behind each backslash for itself.
fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => characters.next().unwrap_or('\\'),
            c => c,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# db:5432:n:u:comment\n\
            db:5432:other:u:wrong\n\
            db:5433:n:u:port\n\
            db:*:n:u:p\\:a\\\\s:s\n\
            \\:\\:1:5432:*:*:six\n\
            fe80\\:\\:1:*:n:u\\:x:colon\n\
            localhost:*:*:*:socket\n\
            short:line\n\
            *:*:*:u:any\n";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        for (host, port, database, user, password) in [
            ("db", 5432, "n", "u", Some("p:a\\s:s")),
            ("db", 5433, "n", "u", Some("port")),
            ("::1", 5432, "n", "v", Some("six")),
            ("fe80::1", 1, "n", "u:x", Some("colon")),
            ("/run/postgresql", 1, "n", "v", Some("socket")),
            ("elsewhere", 1, "n", "u", Some("any")),
            ("elsewhere", 1, "n", "v", None),
        ] {
            let mut host = PostgresHost::new(host.to_owned());
            host.port = port;
            let query = PassFileQuery {
                host: &host,
                database,
                user,
            };
            let found = find(&file, &query).unwrap();
            let found = found.as_ref().map(Secret::expose);
            assert_eq!(found, password, "{} {port} {database} {user}", host.name);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        let host = PostgresHost::new("db".to_owned());
        let query = PassFileQuery {
            host: &host,
            database: "n",
            user: "u",
        };
        assert!(matches!(find(&file, &query), Ok(None)), "it is not there");
        std::fs::write(&file, "*:*:*:*:p\n").unwrap();
        for mode in [0o640, 0o604, 0o660] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
            let error = find(&file, &query).unwrap_err();
            assert!(error.contains("chmod 600"), "{error}");
        }
        assert!(find(folder.path(), &query).is_err());
    }
}

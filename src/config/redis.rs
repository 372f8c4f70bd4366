//! [`RedisConfig`]: the Redis server over which relays share states.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::Secret;

/// Redis' own port.
const DEFAULT_PORT: u16 = 6379;

/// What an address looks like, for errors.
const EXPECTED: &str =
    "expected redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// where it is encrypted";

/// A Redis server, and the names that the relay uses there.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether connections are encrypted, and its certificate is checked.
    pub has_tls: bool,
    /// PEM file with the authorities that may sign its certificate; by default those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// The ACL user; `default` if there is none.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// The number of the database that keeps the newest states. Channels are the same in all of them.
    pub database: u16,
    /// Stands before the name of each channel and key.
    pub prefix: String,
    /// How long a connection, or the answer to a command, may take.
    pub timeout: Duration,
    /// The pause before the first attempt to reconnect; each later one is twice as long.
    pub min_backoff: Duration,
    /// The longest pause between two attempts.
    pub max_backoff: Duration,
    /// How often an idle connection is pinged.
    pub ping_interval: Duration,
}

impl RedisConfig {
    /// The server at a host, without a password.
    pub fn new(host: String) -> Self {
        Self {
            host,
            port: DEFAULT_PORT,
            has_tls: false,
            ca_file: None,
            user: None,
            password: None,
            database: 0,
            prefix: String::new(),
            // States are sent ten times a second: a server that takes longer cannot keep up with them.
            timeout: Duration::from_secs(2),
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            ping_interval: Duration::from_secs(1),
        }
    }
}

impl FromStr for RedisConfig {
    type Err = String;

    /// The texts of errors never repeat the address, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}; {EXPECTED}"))?;
        let has_tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            "redis+sentinel" | "redis+cluster" => {
                return Err(format!(
                    "{} is not supported, only a single server; {EXPECTED}",
                    url.scheme()
                ));
            }
            _ => return Err(EXPECTED.to_owned()),
        };
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        if host.is_empty() {
            return Err(format!("the address names no host; {EXPECTED}"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("nothing may follow the database; {EXPECTED}"));
        }
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => (number.parse()).map_err(|_| {
                format!(
                    "the database is not a number from 0 to {}; {EXPECTED}",
                    u16::MAX
                )
            })?,
        };
        let decoded = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            let decoded =
                decoded.map_err(|_| format!("the user or password is not UTF-8; {EXPECTED}"));
            decoded.map(|text| text.into_owned())
        };
        Ok(Self {
            port: url.port().unwrap_or(DEFAULT_PORT),
            has_tls,
            user: Some(decoded(url.username())?).filter(|user| !user.is_empty()),
            password: (url.password().map(decoded).transpose()?).map(Secret::from),
            database,
            ..Self::new(host)
        })
    }
}

/// The address, without the password.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.has_tls {
            "rediss://"
        } else {
            "redis://"
        })?;
        match (&self.user, &self.password) {
            (Some(user), Some(_)) => write!(f, "{user}:***@")?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, Some(_)) => f.write_str(":***@")?,
            (None, None) => {}
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        if self.database > 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

/// Without the password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_server() {
        for (text, shown) in [
            ("redis://cache", "redis://cache:6379"),
            ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
            (
                "rediss://relay:a%2Fb@cache/",
                "rediss://relay:***@cache:6379",
            ),
            ("redis://:secret@[::1]:7", "redis://:***@[::1]:7"),
        ] {
            let config: RedisConfig = text.parse().unwrap();
            assert_eq!(config.to_string(), shown);
            assert!(!format!("{config:?}").contains("secret"));
        }
        let config: RedisConfig = "redis://u%40x:a%2Fb@cache".parse().unwrap();
        assert_eq!(config.user.as_deref(), Some("u@x"));
        assert_eq!(config.password.as_ref().map(Secret::expose), Some("a/b"));
    }

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for wrong in [
            "",
            "cache:6379",
            "http://:secret@cache",
            "redis://:secret@",
            "redis://:secret@cache/first",
            "redis://:secret@cache/0?protocol=resp3",
            "redis://:secret@cache:99999",
            "redis+sentinel://:secret@cache",
            "redis+cluster://:secret@cache",
            "redis://:%ff@cache",
        ] {
            let error = wrong.parse::<RedisConfig>().unwrap_err();
            assert!(error.contains("expected redis://"), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{wrong}: {error}");
        }
    }
}

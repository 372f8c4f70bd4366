//! [`RedisConfig`]: the Redis server, or the Redis Cluster, over which relays share states.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::Secret;

/// Redis' own port.
const DEFAULT_PORT: u16 = 6379;

/// That of a sentinel.
const SENTINEL_PORT: u16 = 26379;

/// What an address looks like, for errors.
const EXPECTED: &str = "expected redis://USER:PASSWORD@HOST:PORT/DATABASE, \
    redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DATABASE or \
    redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT, with rediss in place of redis where it is encrypted";

/// A Redis server, and the names that the relay uses there.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// The server; or the sentinels, of which any is asked where it is; or nodes of the Redis Cluster, of which any names all.
    pub hosts: Vec<RedisHost>,
    /// Whether the hosts are nodes of a Redis Cluster.
    pub is_cluster: bool,
    /// Whether the channels of a job are sharded: only subscribers at the node that holds the job's state receive them.
    pub has_sharded_channels: bool,
    /// Whether producers may report on channels.
    pub takes_reports: bool,
    /// What sentinels call the server; `None` for a server that is reached without them.
    pub sentinel_master: Option<String>,
    /// The password of the sentinels, if they have one.
    pub sentinel_password: Option<Secret>,
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

/// Where a program listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisHost {
    /// Its name or address.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl RedisConfig {
    /// The server at a host, without a password.
    pub fn new(host: String) -> Self {
        Self {
            hosts: vec![RedisHost {
                name: host,
                port: DEFAULT_PORT,
            }],
            is_cluster: false,
            has_sharded_channels: false,
            takes_reports: false,
            sentinel_master: None,
            sentinel_password: None,
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

    /// One node of the Redis Cluster, reached as the settings say for all of them.
    pub fn node(&self, host: RedisHost) -> Self {
        Self {
            hosts: vec![host],
            is_cluster: false,
            ..self.clone()
        }
    }
}

/// A list of hosts is not a URL: with each of them alone it is one.
fn single_urls(text: &str) -> Result<Vec<Url>, String> {
    let parse = |text: &str| Url::parse(text).map_err(|error| format!("{error}; {EXPECTED}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(vec![parse(text)?]);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (login, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    let urls = hosts.split(',');
    urls.map(|host| parse(&format!("{scheme}://{login}{host}{path}")))
        .collect()
}

fn host_of(url: &Url, default_port: u16) -> Result<RedisHost, String> {
    let name = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => String::new(),
    };
    if name.is_empty() {
        return Err(format!("the address names no host; {EXPECTED}"));
    }
    Ok(RedisHost {
        name,
        port: url.port().unwrap_or(default_port),
    })
}

fn decoded(part: &str) -> Result<String, String> {
    let decoded = percent_decode_str(part).decode_utf8();
    let decoded = decoded.map_err(|_| format!("a part of the address is not UTF-8; {EXPECTED}"));
    decoded.map(|text| text.into_owned())
}

fn database_of(number: &str) -> Result<u16, String> {
    if number.is_empty() {
        return Ok(0);
    }
    let max = u16::MAX;
    let number = number.parse();
    number.map_err(|_| format!("the database is not a number from 0 to {max}; {EXPECTED}"))
}

impl FromStr for RedisConfig {
    type Err = String;

    /// The texts of errors never repeat the address, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let urls = single_urls(text)?;
        let url = &urls[0];
        let (scheme, kind) = url.scheme().split_once('+').unwrap_or((url.scheme(), ""));
        let has_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(EXPECTED.to_owned()),
        };
        let (has_sentinels, is_cluster) = match kind {
            "" => (false, false),
            "sentinel" => (true, false),
            "cluster" => (false, true),
            _ => return Err(EXPECTED.to_owned()),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("nothing may follow the database; {EXPECTED}"));
        }
        let path = url.path().trim_start_matches('/');
        let (master, database) = if has_sentinels {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err(format!("the address does not name the master; {EXPECTED}"));
            }
            (Some(decoded(master)?), database)
        } else if urls.len() > 1 && !is_cluster {
            return Err(format!(
                "several hosts are sentinels, or nodes of a Redis Cluster; {EXPECTED}"
            ));
        } else {
            (None, path)
        };
        let database = database_of(database)?;
        if is_cluster && database > 0 {
            return Err(format!(
                "a Redis Cluster has database 0 alone; leave {database} out; {EXPECTED}"
            ));
        }
        let port = if has_sentinels {
            SENTINEL_PORT
        } else {
            DEFAULT_PORT
        };
        let hosts: Result<_, String> = urls.iter().map(|url| host_of(url, port)).collect();
        Ok(Self {
            hosts: hosts?,
            is_cluster,
            sentinel_master: master,
            has_tls,
            user: Some(decoded(url.username())?).filter(|user| !user.is_empty()),
            password: (url.password().map(decoded).transpose()?).map(Secret::from),
            database,
            ..Self::new(String::new())
        })
    }
}

/// The address, without the password.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.has_tls { "rediss" } else { "redis" })?;
        let scheme_end = match self.sentinel_master {
            Some(_) => "+sentinel://",
            None if self.is_cluster => "+cluster://",
            None => "://",
        };
        f.write_str(scheme_end)?;
        match (&self.user, &self.password) {
            (Some(user), Some(_)) => write!(f, "{user}:***@")?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, Some(_)) => f.write_str(":***@")?,
            (None, None) => {}
        }
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if host.name.contains(':') {
                write!(f, "[{}]:{}", host.name, host.port)?;
            } else {
                write!(f, "{}:{}", host.name, host.port)?;
            }
        }
        if let Some(master) = &self.sentinel_master {
            write!(f, "/{master}")?;
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
            (
                "redis+sentinel://:secret@one,[::1]:7,two:8/main",
                "redis+sentinel://:***@one:26379,[::1]:7,two:8/main",
            ),
            (
                "rediss+sentinel://relay:secret@one/my%20master/3",
                "rediss+sentinel://relay:***@one:26379/my master/3",
            ),
            (
                "redis+cluster://relay:secret@one:7000,[::1]:7001,two/",
                "redis+cluster://relay:***@one:7000,[::1]:7001,two:6379",
            ),
            ("rediss+cluster://one/0", "rediss+cluster://one:6379"),
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
            "redis://:secret@cache,other",
            "redis+sentinel://:secret@cache",
            "redis+sentinel://:secret@cache/",
            "redis+sentinel://:secret@cache,/main",
            "redis+sentinel://:secret@cache/main/first",
            "redis+cluster://:secret@cache/1",
            "redis+cluster://:secret@cache,/",
            "redis+cluster://:secret@cache/main",
            "redis+other://:secret@cache",
            "redis://:%ff@cache",
        ] {
            let error = wrong.parse::<RedisConfig>().unwrap_err();
            assert!(error.contains("expected redis://"), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{wrong}: {error}");
        }
    }
}

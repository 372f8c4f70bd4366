//! [`PostgresConfig`]: where a PostgreSQL database is, and how it is connected.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Secret;

/// PostgreSQL's own port.
const DEFAULT_PORT: u16 = 5432;

/// How long a connection to one host may take, until it can be used.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// After how long the kernel drops a connection to a server that acknowledges nothing.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// What stands for itself in an address that is printed.
const PRINTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A PostgreSQL database. The names of the parameters, their values and their defaults are libpq's, where no other is
/// given.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// The servers, which are tried in this order.
    pub hosts: Vec<PostgresHost>,
    /// The role; the user that runs the program if there is none.
    pub user: Option<String>,
    /// The password; if there is none, the password file may have one.
    pub password: Option<Secret>,
    /// The database.
    pub name: String,
    /// The password file.
    pub pass_file: Option<PathBuf>,
    /// How connections are encrypted; by default [`SslMode::Prefer`].
    pub ssl_mode: Option<SslMode>,
    /// The authorities that may sign the server's certificate.
    pub ssl_roots: Option<SslRoots>,
    /// Whether a password is sent only to a server that proves that nobody stands between.
    pub channel_binding: ChannelBinding,
    /// Which servers are accepted.
    pub target: TargetSession,
    /// Command-line options for the server's process, such as `-c search_path=relay`.
    pub options: Option<String>,
    /// The name under which the database lists the connections.
    pub application_name: String,
    /// How long a connection to one host may take.
    pub connect_timeout: Duration,
    /// After how long the kernel drops a connection to a server that acknowledges nothing; zero for its own default.
    pub tcp_user_timeout: Duration,
    /// The probes of an idle connection.
    pub keepalives: Keepalives,
}

/// One server of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresHost {
    /// Its name or address, or the folder of its Unix socket, which begins with a slash.
    pub name: String,
    /// Its address, where the name need not be resolved.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// TCP's probes of an idle connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keepalives {
    /// Whether there are none.
    pub is_off: bool,
    /// The time before the first probe.
    pub idle: Option<Duration>,
    /// The time between two.
    pub interval: Option<Duration>,
    /// After how many without an answer the connection is dropped.
    pub count: Option<u32>,
}

/// How connections are encrypted, and what of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted if the server can.
    #[default]
    Prefer,
    /// Encrypted. The certificate is not checked, unless authorities are given.
    Require,
    /// Encrypted, with a certificate that an authority has signed.
    VerifyCa,
    /// Encrypted, with a certificate that an authority has signed for the host.
    VerifyFull,
}

/// Certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslRoots {
    /// Those that the operating system trusts.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// Which servers are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetSession {
    /// Those that accept writes, if there are several; otherwise any.
    #[default]
    Unset,
    /// Any.
    Any,
    /// Those that accept writes.
    ReadWrite,
}

/// Whether SCRAM is bound to the encrypted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If the server can.
    #[default]
    Prefer,
    /// Always.
    Require,
}

impl PostgresConfig {
    /// The database `name` of the server at `localhost`.
    pub fn new(name: String) -> Self {
        Self {
            hosts: vec![PostgresHost::new("localhost".to_owned())],
            user: None,
            password: None,
            name,
            pass_file: None,
            ssl_mode: None,
            ssl_roots: None,
            channel_binding: ChannelBinding::default(),
            target: TargetSession::default(),
            options: None,
            application_name: env!("CARGO_PKG_NAME").to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            tcp_user_timeout: TCP_USER_TIMEOUT,
            keepalives: Keepalives::default(),
        }
    }

    /// How connections are encrypted, by default as libpq does: with the system's authorities, which sign for
    /// everybody, only a check of the name says something.
    pub fn ssl_mode(&self) -> SslMode {
        match (self.ssl_mode, &self.ssl_roots) {
            (Some(mode), _) => mode,
            (None, Some(SslRoots::System)) => SslMode::VerifyFull,
            (None, _) => SslMode::default(),
        }
    }

    /// Fails if settings contradict each other.
    pub fn check(&self) -> Result<(), &'static str> {
        match (self.ssl_mode(), &self.ssl_roots) {
            (SslMode::VerifyCa, None) => Err(
                "sslmode=verify-ca needs sslrootcert, a PEM file with the authority; \
                 sslmode=verify-full does without, and uses the system's authorities",
            ),
            (SslMode::VerifyFull, _) => Ok(()),
            (mode, Some(SslRoots::System)) if mode != SslMode::VerifyFull => Err(
                "sslrootcert=system needs sslmode=verify-full, because anybody gets a certificate from one of the \
                 system's authorities",
            ),
            _ => Ok(()),
        }
    }

    /// Whether a server must accept writes.
    pub fn needs_writes(&self) -> bool {
        match self.target {
            TargetSession::Unset => self.hosts.len() > 1,
            TargetSession::Any => false,
            TargetSession::ReadWrite => true,
        }
    }
}

impl PostgresHost {
    /// A server at PostgreSQL's own port.
    pub fn new(name: String) -> Self {
        Self {
            name,
            address: None,
            port: DEFAULT_PORT,
        }
    }

    /// Whether it is reached by a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.address.is_none() && self.name.starts_with('/')
    }
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        clap::ValueEnum::from_str(text, false).map_err(|_| {
            "sslmode is none of disable, prefer, require, verify-ca, verify-full".to_owned()
        })
    }
}

impl From<&str> for SslRoots {
    fn from(text: &str) -> Self {
        match text {
            "system" => Self::System,
            path => Self::File(path.into()),
        }
    }
}

/// The address, without the password.
impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |text: &str| utf8_percent_encode(text, PRINTED).to_string();
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            f.write_str(&encoded(user))?;
            if self.password.is_some() {
                f.write_str(":***")?;
            }
            f.write_str("@")?;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match host.name.parse::<Ipv6Addr>() {
                Ok(address) => write!(f, "[{address}]")?,
                Err(_) if host.is_socket() => write!(f, "{}", host.name.replace('/', "%2F"))?,
                Err(_) => f.write_str(&host.name)?,
            }
            write!(f, ":{}", host.port)?;
        }
        write!(f, "/{}", encoded(&self.name))
    }
}

/// Without the password.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

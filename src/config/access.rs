//! Who is let in, and how many of them.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

/// Who is let in.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// What tokens are checked with; `None` lets everybody do everything.
    pub keys: Option<KeySource>,
    /// What the `aud` of every token must hold; `None` for no matter what.
    pub audience: Option<String>,
    /// What the `iss` of every token must be; `None` for no matter what.
    pub issuer: Option<String>,
    /// Which web pages may use the relay.
    pub origins: Origins,
    /// The proxies that are believed when they say on whose behalf they ask.
    pub trusted_proxies: Vec<IpNet>,
}

/// What tokens are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A secret that is shared with who makes the tokens (HS256), of at least
    /// [`KeySource::MIN_SECRET`] bytes.
    Secret(Secret),
    /// A file with a JSON Web Key Set of public keys (RS256, ES256, EdDSA), read again when it changes.
    File(PathBuf),
}

impl KeySource {
    /// A shorter secret can be guessed from a single token: RFC 7518 wants as many bytes as the hash has.
    pub const MIN_SECRET: usize = 32;
}

/// Which web pages may use the relay. What is no web page is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Those that the relay serves itself, under whatever name it was reached.
    #[default]
    Same,
    /// Those as well, such as `https://app.example.org`, without path.
    Listed(Vec<Url>),
    /// Everybody's.
    Any,
}

/// How much is borne from one client. Zero is for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitConfig {
    /// Requests a second from one address, and with tokens of one `sub`.
    pub requests: u32,
    /// Attempts to connect a second from one address, and sockets opened with tokens of one `sub`.
    pub attempts: u32,
    /// Open connections in all.
    pub connections: u32,
    /// Open connections from one address.
    pub connections_per_address: u32,
    /// Whether the limits of one client hold for those on the relay's own machine.
    pub loopback: bool,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            requests: 1_000,
            attempts: 500,
            connections: 0,
            connections_per_address: 5_000,
            loopback: false,
        }
    }
}

/// The files that TLS needs, both in PEM. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, followed by those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

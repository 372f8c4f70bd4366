//! [`AccessConfig`]: which clients may use the relay, and over which connections.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use ipnet::IpNet;
use url::Url;

use super::secret::Secret;

/// Which clients may use the relay.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// What tokens are verified with; `None` allows every client everything, without a token.
    #[arg(skip)]
    pub keys: Option<KeySource>,

    /// What links to files are signed with; `None` for a key of the relay's own.
    #[arg(skip)]
    pub link_secret: Option<Secret>,

    /// The value that the aud claim of every token must contain
    #[arg(
        long = "auth-audience",
        env = "AUTH_AUDIENCE",
        value_parser = NonEmptyStringValueParser::new(),
        value_name = "NAME"
    )]
    pub audience: Option<String>,

    /// The value that the iss claim of every token must have
    #[arg(
        long = "auth-issuer",
        env = "AUTH_ISSUER",
        value_parser = NonEmptyStringValueParser::new(),
        value_name = "NAME"
    )]
    pub issuer: Option<String>,

    /// Which web pages may use the relay.
    #[arg(skip)]
    pub origins: Origins,

    /// Proxies whose Forwarded and X-Forwarded- headers are trusted to name the client, and the address
    /// that it has used: addresses or networks, with commas between them
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = parse_network,
        value_name = "ADDRESS"
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// The address under which clients reach the relay, such as https://HOST/relay/, for links in answers. Without
    /// it they are made of what a trusted proxy says, or of the address that the client has used
    #[arg(long, env = "PUBLIC_URL", value_parser = parse_public_url, value_name = "URL")]
    pub public_url: Option<Url>,
}

/// What tokens are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A secret shared with the issuer of the tokens (HS256), of at least [`KeySource::MIN_SECRET`] bytes.
    Secret(Secret),
    /// A file with a JSON Web Key Set of public keys (RS256, ES256, EdDSA), read again when it changes.
    File(PathBuf),
}

impl KeySource {
    /// RFC 7518 requires a key as long as the hash, in bytes: a shorter one can be guessed from a single token.
    pub const MIN_SECRET: usize = 32;
}

/// Which web pages may use the relay. Clients that are not web pages send no origin and are not restricted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Only pages that the relay serves itself, under whatever name it was reached.
    #[default]
    Same,
    /// Those pages and pages of these origins.
    Listed(Vec<PageOrigin>),
    /// All web pages.
    Any,
}

/// The origin of web pages that may use the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageOrigin {
    /// Pages of this host, such as `https://app.example.org`, without a path.
    Site(Url),
    /// Pages without an origin of their own, whose browsers send `Origin: null`: files, and sandboxed frames.
    Null,
}

/// The files that TLS needs, both in PEM. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct TlsConfig {
    /// The certificate chain in PEM; with it the relay accepts TLS connections only. Read again when
    /// it changes
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        env = "TLS_CERT",
        required = false,
        requires = "tls_key",
        value_name = "FILE"
    )]
    pub certificate: PathBuf,

    /// The certificate's private key in PEM
    #[arg(
        id = "tls_key",
        long = "tls-key",
        env = "TLS_KEY",
        required = false,
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub key: PathBuf,
}

/// Reads an address or a network.
pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "expected an address or a network, such as 10.0.0.1 or 10.0.0.0/8".to_owned())
}

/// Reads the address under which clients reach the relay. Its path ends with a slash.
fn parse_public_url(text: &str) -> Result<Url, String> {
    let expected = "expected http://HOST or https://HOST, with or without a path";
    let mut url = Url::parse(text.trim()).map_err(|_| expected.to_owned())?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let is_bare = url.query().is_none() && url.fragment().is_none();
    let has_user = !url.username().is_empty() || url.password().is_some();
    if !is_web || !is_bare || has_user {
        return Err(expected.to_owned());
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_has_a_path_and_nothing_after_it() {
        for (text, url) in [
            ("https://relay.example", "https://relay.example/"),
            (
                "https://relay.example/relay",
                "https://relay.example/relay/",
            ),
            (" http://10.0.0.1:8080/a/b// ", "http://10.0.0.1:8080/a/b/"),
        ] {
            assert_eq!(parse_public_url(text).unwrap().as_str(), url);
        }
        for wrong in [
            "",
            "relay.example",
            "ws://relay.example",
            "https://a@b/",
            "https://a/?b",
            "https://a/#b",
        ] {
            assert!(parse_public_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        for right in ["10.0.0.1", " 10.0.0.0/8", "fd00::1", "fd00::/8"] {
            assert!(parse_network(right).is_ok(), "{right}");
        }
        for wrong in ["", "proxy", "10.0.0.0/33", "10.0.0.1:80"] {
            assert!(parse_network(wrong).is_err(), "{wrong}");
        }
    }
}

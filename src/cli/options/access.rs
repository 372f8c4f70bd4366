use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::bail;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use ipnet::IpNet;
use url::Url;

use crate::config::{AccessConfig, KeySource, LimitConfig, Origins, Secret, TlsConfig};

/// Who is let in, and how many of them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access")]
pub(in crate::cli) struct AccessOptions {
    /// The secret that tokens are signed with (HS256), at least 32 bytes; better in the environment,
    /// where nobody sees it in a list of processes
    #[arg(
        long,
        env = "AUTH_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    auth_jwt_secret: Option<Secret>,

    /// A JSON Web Key Set of public keys (RS256, ES256, EdDSA), in place of a secret; read again when it
    /// changes
    #[arg(
        long,
        env = "AUTH_JWKS_FILE",
        conflicts_with = "auth_jwt_secret",
        value_name = "FILE"
    )]
    auth_jwks_file: Option<PathBuf>,

    /// What the aud of every token must hold
    #[arg(long, env = "AUTH_AUDIENCE", value_parser = NonEmptyStringValueParser::new(), value_name = "NAME")]
    auth_audience: Option<String>,

    /// What the iss of every token must be
    #[arg(long, env = "AUTH_ISSUER", value_parser = NonEmptyStringValueParser::new(), value_name = "NAME")]
    auth_issuer: Option<String>,

    /// Listen on other addresses than loopback also where nobody is asked for a token: whoever reaches
    /// the relay can do everything
    #[arg(long, env = "INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,

    /// The web pages that may use the relay beside its own, by their origin (https://HOST), with commas
    /// between them; * for all
    #[arg(
        long,
        env = "ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_parser = origin,
        value_name = "ORIGIN"
    )]
    allowed_origins: Vec<Page>,

    /// The proxies that are believed when they name the client they ask for (Forwarded,
    /// X-Forwarded-For): addresses or networks, with commas between them
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = network,
        value_name = "ADDRESS"
    )]
    trusted_proxies: Vec<IpNet>,

    /// The certificate chain in PEM; with it the relay speaks TLS alone. Read again when it changes
    #[arg(long, env = "TLS_CERT", requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key in PEM
    #[arg(long, env = "TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitOptions,
}

/// How much is borne from one client.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits (0 for none)")]
struct LimitOptions {
    /// Requests a second from one address, and with tokens of one sub
    #[arg(long, env = "RATE_LIMIT_REQUESTS", default_value_t = LimitConfig::default().requests, value_name = "PER_SECOND")]
    rate_limit_requests: u32,

    /// Connections a second from one address, and sockets a second with tokens of one sub
    #[arg(long, env = "RATE_LIMIT_CONNECTIONS", default_value_t = LimitConfig::default().attempts, value_name = "PER_SECOND")]
    rate_limit_connections: u32,

    /// Open connections in all
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = LimitConfig::default().connections, value_name = "NUMBER")]
    max_connections: u32,

    /// Open connections from one address
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = LimitConfig::default().connections_per_address, value_name = "NUMBER")]
    max_connections_per_address: u32,

    /// Limit clients on the relay's own machine as well
    #[arg(long, env = "LIMIT_LOOPBACK", value_parser = BoolishValueParser::new())]
    limit_loopback: bool,
}

/// A page that may use the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Any,
    At(Url),
}

impl AccessOptions {
    /// Who is let in at an address. Fails where that would be everybody on a network.
    pub(in crate::cli) fn access(&self, listen: SocketAddr) -> anyhow::Result<AccessConfig> {
        let keys = match (&self.auth_jwt_secret, &self.auth_jwks_file) {
            (Some(secret), _) => Some(KeySource::Secret(secret.clone())),
            (None, Some(file)) => Some(KeySource::File(file.clone())),
            (None, None) => None,
        };
        if keys.is_none() && !self.insecure {
            keep_private(
                listen,
                "set AUTH_JWT_SECRET or AUTH_JWKS_FILE so that clients need tokens, listen on 127.0.0.1 \
                 only, or say --insecure (INSECURE=true)",
            )?;
        }
        Ok(AccessConfig {
            keys,
            audience: self.auth_audience.clone(),
            issuer: self.auth_issuer.clone(),
            origins: self.origins(),
            trusted_proxies: self.trusted_proxies.clone(),
        })
    }

    fn origins(&self) -> Origins {
        if self.allowed_origins.contains(&Page::Any) {
            return Origins::Any;
        }
        let pages = self.allowed_origins.iter();
        let urls: Vec<Url> = pages
            .filter_map(|page| match page {
                Page::Any => None,
                Page::At(url) => Some(url.clone()),
            })
            .collect();
        match urls.is_empty() {
            true => Origins::Same,
            false => Origins::Listed(urls),
        }
    }

    pub(in crate::cli) fn limits(&self) -> LimitConfig {
        LimitConfig {
            requests: self.limits.rate_limit_requests,
            attempts: self.limits.rate_limit_connections,
            connections: self.limits.max_connections,
            connections_per_address: self.limits.max_connections_per_address,
            loopback: self.limits.limit_loopback,
        }
    }

    pub(in crate::cli) fn tls(&self) -> Option<TlsConfig> {
        Some(TlsConfig {
            certificate: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
        })
    }
}

/// Refuses to listen where others than this machine can come, with what to do about it.
pub(in crate::cli) fn keep_private(listen: SocketAddr, remedy: &str) -> anyhow::Result<()> {
    if !listen.ip().to_canonical().is_loopback() {
        bail!("on {listen} (--listen, LISTEN) everybody could do everything: {remedy}");
    }
    Ok(())
}

/// An origin, or `*`.
fn origin(text: &str) -> Result<Page, String> {
    let expected = "expected https://HOST or https://HOST:PORT without path, or *";
    let text = text.trim();
    if text == "*" {
        return Ok(Page::Any);
    }
    let url = Url::parse(text).map_err(|_| expected.to_owned())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_named = url.username().is_empty() && url.password().is_none();
    match url.origin().is_tuple() && is_bare && is_named {
        true => Ok(Page::At(url)),
        false => Err(expected.to_owned()),
    }
}

/// An address or a network.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "expected an address or a network, such as 10.0.0.1 or 10.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_no_path() {
        assert_eq!(origin(" * "), Ok(Page::Any));
        assert!(matches!(origin("https://app.example"), Ok(Page::At(_))));
        assert!(matches!(
            origin("http://app.example:8080/"),
            Ok(Page::At(_))
        ));
        for wrong in [
            "",
            "app.example",
            "https://app.example/page",
            "https://*.example/x",
            "https://me@app.example",
            "file:///x",
            "null",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        for right in ["10.0.0.1", " 10.0.0.0/8", "fd00::1", "fd00::/8"] {
            assert!(network(right).is_ok(), "{right}");
        }
        for wrong in ["", "proxy", "10.0.0.0/33", "10.0.0.1:80"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_loopback_is_private() {
        for (listen, is_private) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert_eq!(
                keep_private(listen.parse().unwrap(), "").is_ok(),
                is_private,
                "{listen}"
            );
        }
    }
}

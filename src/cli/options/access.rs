//! [`AccessOptions`]: the access settings that take more than one flag, or more than one setting, to decide.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::builder::BoolishValueParser;
use url::Url;

use crate::config::{KeySource, Origins, PageOrigin, Secret, ServerConfig};

/// Which clients may use the relay.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access")]
pub(in crate::cli) struct AccessOptions {
    /// The secret that tokens are signed with (HS256), at least 32 bytes. Better set in the environment:
    /// a list of processes shows flags
    #[arg(
        long,
        env = "AUTH_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    auth_jwt_secret: Option<Secret>,

    /// A JSON Web Key Set of public keys (RS256, ES256, EdDSA), instead of a secret; read again when it
    /// changes
    #[arg(
        long,
        env = "AUTH_JWKS_FILE",
        conflicts_with = "auth_jwt_secret",
        value_name = "FILE"
    )]
    auth_jwks_file: Option<PathBuf>,

    /// The secret that links to files are signed with, at least 32 bytes; the same for all relays that share clients.
    /// Without it AUTH_JWT_SECRET is used, and with AUTH_JWKS_FILE a key that is new with each start
    #[arg(
        long,
        env = "LINK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    link_secret: Option<Secret>,

    /// Listen beyond loopback without tokens: every client that reaches the relay can do everything
    #[arg(long, env = "INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,

    /// Origins (https://HOST) of other web pages that may use the relay, with commas between them; null for
    /// files and sandboxed frames, * for all. Without tokens, pages of this machine may use a relay on loopback
    #[arg(
        long,
        env = "ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_parser = parse_origin,
        value_name = "ORIGIN"
    )]
    allowed_origins: Vec<AllowedOrigin>,
}

/// One entry of `--allowed-origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedOrigin {
    Any,
    One(PageOrigin),
}

impl AccessOptions {
    /// Sets what these options decide. Fails if clients need no token and could come from other machines.
    pub(in crate::cli) fn apply_to(self, server: &mut ServerConfig) -> anyhow::Result<()> {
        let addresses = [
            Some((server.listen, "--listen, LISTEN")),
            server
                .comfy_listen
                .map(|it| (it, "--comfy-listen, COMFY_LISTEN")),
        ];
        server.access.keys = self.keys(addresses.into_iter().flatten())?;
        server.access.link_secret.clone_from(&self.link_secret);
        server.access.origins = self.origins();
        Ok(())
    }

    /// What tokens are verified with. Fails if clients need no token and could come from other machines.
    fn keys(
        &self,
        addresses: impl Iterator<Item = (SocketAddr, &'static str)>,
    ) -> anyhow::Result<Option<KeySource>> {
        let keys = match (&self.auth_jwt_secret, &self.auth_jwks_file) {
            (Some(secret), _) => Some(KeySource::Secret(secret.clone())),
            (None, Some(file)) => Some(KeySource::File(file.clone())),
            (None, None) => None,
        };
        if keys.is_none() && !self.insecure {
            for (listen, setting) in addresses {
                require_loopback(
                    listen,
                    setting,
                    "set AUTH_JWT_SECRET or AUTH_JWKS_FILE so that clients need tokens, listen on 127.0.0.1 \
                     only, or set --insecure (INSECURE=true)",
                )?;
            }
        }
        Ok(keys)
    }

    /// Which web pages may use the relay.
    fn origins(self) -> Origins {
        let mut listed = Vec::new();
        for origin in self.allowed_origins {
            match origin {
                AllowedOrigin::Any => return Origins::Any,
                AllowedOrigin::One(origin) => listed.push(origin),
            }
        }
        if listed.is_empty() {
            Origins::Same
        } else {
            Origins::Listed(listed)
        }
    }
}

/// Refuses an address that other machines can reach; `remedy` says what to do about it.
fn require_loopback(listen: SocketAddr, setting: &str, remedy: &str) -> anyhow::Result<()> {
    if !listen.ip().to_canonical().is_loopback() {
        bail!("on {listen} ({setting}) every client could do everything: {remedy}");
    }
    Ok(())
}

/// Reads an origin, `null`, or `*`.
fn parse_origin(text: &str) -> Result<AllowedOrigin, String> {
    let expected = "expected https://HOST or https://HOST:PORT without path, null, or *";
    let text = text.trim();
    match text {
        "*" => return Ok(AllowedOrigin::Any),
        "null" => return Ok(AllowedOrigin::One(PageOrigin::Null)),
        _ => {}
    }
    let url = Url::parse(text).map_err(|_| expected.to_owned())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let has_user = !url.username().is_empty() || url.password().is_some();
    if url.origin().is_tuple() && is_bare && !has_user {
        Ok(AllowedOrigin::One(PageOrigin::Site(url)))
    } else {
        Err(expected.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_no_path() {
        assert_eq!(parse_origin(" * "), Ok(AllowedOrigin::Any));
        assert_eq!(
            parse_origin("null"),
            Ok(AllowedOrigin::One(PageOrigin::Null))
        );
        assert!(matches!(
            parse_origin("https://app.example"),
            Ok(AllowedOrigin::One(_))
        ));
        assert!(matches!(
            parse_origin("http://app.example:8080/"),
            Ok(AllowedOrigin::One(_))
        ));
        for wrong in [
            "",
            "app.example",
            "https://app.example/page",
            "https://*.example/x",
            "https://me@app.example",
            "file:///x",
        ] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
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
                require_loopback(listen.parse().unwrap(), "", "").is_ok(),
                is_private,
                "{listen}"
            );
        }
    }
}

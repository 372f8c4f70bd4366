//! [`ServerUrl`]: the address of a server, with credentials that are never printed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::secret::Secret;

/// The address of an HTTP server: `http` or `https`, with a path or without, and with the credentials for a
/// proxy in front of it, which are never printed. Read from a URL; without a scheme it is `http`, and a port
/// alone, as `PORT` or `:PORT`, is one of this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    url: Url,
    credentials: Option<Secret>,
}

/// Why a text is not the address of a server. Never repeats the text, which can hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Not a URL.
    #[error("{0}")]
    Syntax(#[from] url::ParseError),
    /// A URL of another scheme.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// A URL with `?` or `#`.
    #[error("a query or a fragment is not allowed")]
    Query,
    /// A user name with a colon, or credentials that are not UTF-8.
    #[error("the user name must not hold a colon, and user and password must be UTF-8")]
    Credentials,
}

impl ServerUrl {
    /// The URL without the credentials.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What the server is called in messages: host, port and path.
    pub fn name(&self) -> String {
        let port = self.url.port().map(|port| format!(":{port}"));
        let path = self.url.path().trim_end_matches('/');
        format!(
            "{}{}{path}",
            self.url.host_str().unwrap_or_default(),
            port.unwrap_or_default()
        )
    }

    /// Whether both name the same server, as far as their text shows. All names of the own machine are one.
    pub fn is_same_server(&self, other: &Self) -> bool {
        let place = |url: &Url| {
            let host = match url.host() {
                Some(Host::Domain("localhost")) => None,
                Some(Host::Ipv4(address)) if address.is_loopback() => None,
                Some(Host::Ipv6(address)) if address.to_canonical().is_loopback() => None,
                host => host.map(|host| host.to_owned()),
            };
            let path = url.path().trim_end_matches('/').to_owned();
            (host, url.port_or_known_default(), path)
        };
        place(&self.url) == place(&other.url)
    }

    /// `USER:PASSWORD` for HTTP Basic authentication (RFC 7617), if the URL names a user or a password.
    pub fn credentials(&self) -> Option<&Secret> {
        self.credentials.as_ref()
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let mut url = Url::parse(&with_scheme(text.trim()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ServerUrlError::Scheme);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ServerUrlError::Query);
        }
        let credentials = credentials(&url)?;
        // Fails only for URLs without a host, which these schemes do not allow.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        Ok(Self { url, credentials })
    }
}

/// Without the credentials.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.url, f)
    }
}

/// Without the credentials.
impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads the address of a ComfyUI server. The error does not repeat the text.
pub(super) fn parse_comfyui_url(text: &str) -> Result<ServerUrl, String> {
    let expected = "expected ComfyUI's address, such as http://127.0.0.1:8188 or https://USER:PASSWORD@HOST/PATH";
    text.parse()
        .map_err(|why: ServerUrlError| format!("{why}; {expected}"))
}

/// Reads the address of a ComfyUI server for a command that needs one: the first, where there are several as the relay takes
/// them.
pub fn parse_first_comfyui_url(text: &str) -> Result<ServerUrl, String> {
    parse_comfyui_url(text.split(',').next().unwrap_or_default())
}

/// Reads the address of a relay. The error does not repeat the text.
pub fn parse_relay_url(text: &str) -> Result<ServerUrl, String> {
    let expected =
        "expected the relay's address, such as http://127.0.0.1:8328 or https://HOST/PATH";
    let url: ServerUrl = text
        .parse()
        .map_err(|why: ServerUrlError| format!("{why}; {expected}"))?;
    if url.credentials().is_some() {
        return Err(format!(
            "the relay takes no user and password, but a token (--token, RELAY_TOKEN); {expected}"
        ));
    }
    Ok(url)
}

/// The text with a scheme: `http` if it has none, and on this machine if it is a port alone.
fn with_scheme(text: &str) -> Cow<'_, str> {
    let has_scheme = ["http:", "https:", "/"]
        .iter()
        .any(|begin| text.starts_with(begin));
    if text.is_empty() || has_scheme || text.contains("://") {
        return text.into();
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("http://127.0.0.1:{port}").into();
    }
    format!("http://{text}").into()
}

fn credentials(url: &Url) -> Result<Option<Secret>, ServerUrlError> {
    let password = url.password();
    if url.username().is_empty() && password.is_none() {
        return Ok(None);
    }
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded
            .map(|text| text.into_owned())
            .map_err(|_| ServerUrlError::Credentials)
    };
    let user = decode(url.username())?;
    if user.contains(':') {
        return Err(ServerUrlError::Credentials);
    }
    let password = decode(password.unwrap_or_default())?;
    Ok(Some(format!("{user}:{password}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_kept_apart_and_never_printed() {
        let url: ServerUrl = " https://me:p%40ss%20word@host/comfy ".parse().unwrap();
        assert_eq!(url.url().as_str(), "https://host/comfy");
        assert_eq!(url.credentials().unwrap().expose(), "me:p@ss word");
        let printed = format!("{url} {url:?} {:?}", url.credentials());
        assert!(!printed.contains("ss"), "{printed}");
        let user_only: ServerUrl = "http://me@host".parse().unwrap();
        assert_eq!(user_only.credentials().unwrap().expose(), "me:");
        let bare: ServerUrl = "http://host:8188".parse().unwrap();
        assert_eq!(bare.credentials(), None);
    }

    #[test]
    fn of_several_servers_a_command_takes_the_first() {
        let url = parse_first_comfyui_url("http://gpu1:8188,http://gpu2:8188").unwrap();
        assert_eq!(url.to_string(), "http://gpu1:8188/");
        assert!(parse_first_comfyui_url("").is_err());
    }

    #[test]
    fn other_urls_are_refused_without_being_repeated() {
        for (text, error) in [
            ("ftp://me:secret@host", ServerUrlError::Scheme),
            ("ftp://secret", ServerUrlError::Scheme),
            ("http://me:secret@host/?a", ServerUrlError::Query),
            ("http://me:secret@host/#a", ServerUrlError::Query),
            ("http://m%3Ae:secret@host", ServerUrlError::Credentials),
            ("http://%ff:secret@host", ServerUrlError::Credentials),
        ] {
            let refused = text.parse::<ServerUrl>().unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
        for text in [
            "",
            "http://",
            "http:",
            "https://me:secret@",
            "//host",
            "host:port",
            "ftp:host",
            "99999",
            "two words",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn scheme_and_host_can_be_left_out() {
        for (text, url) in [
            ("localhost:8188", "http://localhost:8188/"),
            ("gpu.example", "http://gpu.example/"),
            ("gpu.example:8188/comfy", "http://gpu.example:8188/comfy"),
            ("[::1]:8188", "http://[::1]:8188/"),
            ("me:secret@host", "http://host/"),
            (":8188", "http://127.0.0.1:8188/"),
            ("8188", "http://127.0.0.1:8188/"),
            ("HTTPS://host", "https://host/"),
        ] {
            let read: ServerUrl = text.parse().unwrap();
            assert_eq!(read.url().as_str(), url, "{text}");
        }
    }
}

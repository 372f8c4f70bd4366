//! [`ServerUrl`]: the address of a server, with credentials that are never printed.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use percent_encoding::percent_decode_str;
use url::Url;

use super::secret::Secret;

/// The address of an HTTP server: `http` or `https`, with a path or without, and with the credentials for a
/// proxy in front of it, which are never printed.
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

    /// `USER:PASSWORD` for HTTP Basic authentication (RFC 7617), if the URL names a user or a password.
    pub fn credentials(&self) -> Option<&Secret> {
        self.credentials.as_ref()
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let mut url = Url::parse(text.trim())?;
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

/// Reads a [`ServerUrl`] from the command line. Its errors do not repeat the text, as those of clap do.
#[derive(Debug, Clone, Copy)]
pub struct ServerUrlParser {
    expected: &'static str,
    credentials: Result<(), &'static str>,
}

impl ServerUrlParser {
    /// For ComfyUI's address.
    pub const COMFYUI: Self = Self {
        expected: "ComfyUI's address, such as http://127.0.0.1:8188 or https://USER:PASSWORD@HOST/PATH",
        credentials: Ok(()),
    };

    /// For the relay's address.
    pub const RELAY: Self = Self {
        expected: "the relay's address, such as http://127.0.0.1:8328 or https://HOST/PATH",
        credentials: Err(
            "the relay takes no user and password, but a token (--token, RELAY_TOKEN)",
        ),
    };

    fn read(self, text: &OsStr) -> Result<ServerUrl, String> {
        let text = text.to_str().ok_or("not UTF-8")?;
        let url: ServerUrl = text
            .parse()
            .map_err(|error: ServerUrlError| error.to_string())?;
        if url.credentials().is_some() {
            self.credentials?;
        }
        Ok(url)
    }
}

impl TypedValueParser for ServerUrlParser {
    type Value = ServerUrl;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<ServerUrl, clap::Error> {
        self.read(value).map_err(|why| {
            let arg = arg.map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "invalid value for '{arg}': {why}; expected {}\n",
                self.expected
            );
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
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
    fn other_urls_are_refused_without_being_repeated() {
        for (text, error) in [
            ("ftp://me:secret@host", ServerUrlError::Scheme),
            ("me:secret@host", ServerUrlError::Scheme),
            ("http://me:secret@host/?a", ServerUrlError::Query),
            ("http://me:secret@host/#a", ServerUrlError::Query),
            ("http://m%3Ae:secret@host", ServerUrlError::Credentials),
            ("http://%ff:secret@host", ServerUrlError::Credentials),
        ] {
            let refused = text.parse::<ServerUrl>().unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
        for text in ["", "host:8188", "http://", "https://me:secret@", "//host"] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}

//! [`WebhookConfig`]: where webhooks are sent, and how.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::access::parse_network;
use super::secret::Secret;

/// Where webhooks are sent, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// Where the events of all jobs, servers and the queue are sent, by Standard Webhooks
    #[arg(
        id = "webhook_url",
        long = "webhook-url",
        env = "WEBHOOK_URL",
        hide_env_values = true,
        value_parser = parse_webhook_url,
        value_name = "URL"
    )]
    pub url: Option<Url>,

    /// The secret that webhooks are signed with: whsec_ and 24 to 64 bytes in base64. Several with spaces between
    /// them all sign, while one is replaced
    #[arg(
        id = "webhook_secret",
        long = "webhook-secret",
        env = "WEBHOOK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub secret: Option<Secret>,

    /// The percentages at which job.progress is sent to WEBHOOK_URL, multiples of 5 with commas between them; none by
    /// default
    #[arg(
        id = "webhook_progress",
        long = "webhook-progress",
        env = "WEBHOOK_PROGRESS",
        value_delimiter = ',',
        value_parser = parse_threshold,
        value_name = "PERCENT"
    )]
    pub progress: Vec<u8>,

    /// The hosts to which the webhooks of single jobs may be sent, with commas between them: HOST, HOST:PORT, or *.HOST
    /// for all below it. None by default: then jobs have no webhooks of their own
    #[arg(
        id = "webhook_hosts",
        long = "webhook-hosts",
        env = "WEBHOOK_HOSTS",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub hosts: Vec<WebhookHost>,

    /// The private networks in which these hosts may be, with commas between them; by default only public addresses
    #[arg(
        id = "webhook_networks",
        long = "webhook-networks",
        env = "WEBHOOK_NETWORKS",
        value_delimiter = ',',
        value_parser = parse_network,
        value_name = "NETWORK"
    )]
    pub networks: Vec<IpNet>,

    /// A PEM file with certificate authorities that may sign the certificates of targets, in addition to the system's
    #[arg(
        id = "webhook_ca_file",
        long = "webhook-ca-file",
        env = "WEBHOOK_CA_FILE",
        value_name = "FILE"
    )]
    pub ca_file: Option<PathBuf>,

    /// How long one attempt may take.
    #[arg(skip = WebhookConfig::default().timeout)]
    pub timeout: Duration,

    /// The pause after the first attempt that failed. Each further one is three times as long.
    #[arg(skip = WebhookConfig::default().min_backoff)]
    pub min_backoff: Duration,

    /// The longest pause.
    #[arg(skip = WebhookConfig::default().max_backoff)]
    pub max_backoff: Duration,

    /// How long it is tried.
    #[arg(skip = WebhookConfig::default().give_up_after)]
    pub give_up_after: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            progress: Vec::new(),
            hosts: Vec::new(),
            networks: Vec::new(),
            ca_file: None,
            timeout: Duration::from_secs(15),
            min_backoff: Duration::from_secs(5),
            max_backoff: Duration::from_secs(10_800),
            give_up_after: Duration::from_secs(86_400),
        }
    }
}

impl WebhookConfig {
    /// Whether anything is ever sent.
    pub fn is_on(&self) -> bool {
        self.url.is_some() || !self.hosts.is_empty()
    }

    /// Whether the webhook of a job may be sent there.
    pub fn allows(&self, url: &Url) -> bool {
        self.hosts.iter().any(|host| host.allows(url))
    }
}

/// A host to which the webhooks of single jobs may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHost {
    /// In lower case, without a dot at its end.
    host: String,
    /// Whether it is any host below that one.
    is_suffix: bool,
    /// `None` for the port of the scheme.
    port: Option<u16>,
}

impl WebhookHost {
    fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        let host = host.trim_end_matches('.');
        let is_host = if self.is_suffix {
            let below = host.strip_suffix(&self.host);
            below.is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        };
        let is_port = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        is_host && is_port
    }
}

impl FromStr for WebhookHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let expected = "expected HOST, HOST:PORT or *.HOST";
        let text = text.trim();
        let (is_suffix, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| expected)?))
            }
            _ => (rest, None),
        };
        let host = Host::parse(host.trim_end_matches('.')).map_err(|_| expected)?;
        if is_suffix && !matches!(host, Host::Domain(_)) {
            return Err(expected);
        }
        Ok(WebhookHost {
            host: host.to_string(),
            is_suffix,
            port,
        })
    }
}

/// How long the address of a target is at most, in bytes. It is stored with each message, and is the key of a table.
const MAX_URL: usize = 2_048;

/// Reads the address of a target. The error does not repeat the text.
pub fn parse_webhook_url(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL {
        return Err(format!("expected a URL of at most {MAX_URL} bytes"));
    }
    let expected =
        "expected https://HOST/PATH or http://HOST/PATH, without a user, a password or a #";
    let url = Url::parse(text.trim()).map_err(|_| expected.to_owned())?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    let has_user = !url.username().is_empty() || url.password().is_some();
    if is_web && !has_user && url.fragment().is_none() {
        Ok(url)
    } else {
        Err(expected.to_owned())
    }
}

/// Reads a percentage at which progress is sent.
pub fn parse_threshold(text: &str) -> Result<u8, &'static str> {
    let percent = text.trim().parse().ok();
    percent
        .filter(|percent| (5..100).contains(percent) && percent % 5 == 0)
        .ok_or("expected a multiple of 5 from 5 to 95")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(host: &str, url: &str) -> bool {
        host.parse::<WebhookHost>()
            .unwrap()
            .allows(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_host_is_allowed_with_its_port_alone() {
        for (host, url, is_allowed) in [
            ("app.example", "https://app.example/hook", true),
            ("App.Example.", "https://APP.example./hook", true),
            ("app.example", "https://app.example:443/hook", true),
            ("app.example", "https://app.example:8443/hook", false),
            ("app.example:8443", "https://app.example:8443/hook", true),
            ("app.example", "https://app.example.evil.example/", false),
            ("app.example", "https://evil-app.example/", false),
            ("app.example", "https://x.app.example/", false),
            ("*.app.example", "https://x.app.example/", true),
            ("*.app.example", "https://a.b.app.example/", true),
            ("*.app.example", "https://app.example/", false),
            ("*.app.example", "https://xapp.example/", false),
            ("127.0.0.1:9000", "http://127.0.0.1:9000/", true),
            ("127.0.0.1:9000", "http://2130706433:9000/", true),
            ("[::1]:9000", "http://[::1]:9000/", true),
            ("[::1]", "http://[::1]/", true),
        ] {
            assert_eq!(allows(host, url), is_allowed, "{host} {url}");
        }
        for wrong in [
            "",
            "*.",
            "https://app.example",
            "a b",
            "app.example:x",
            "*.127.0.0.1",
        ] {
            assert!(wrong.parse::<WebhookHost>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_target_has_no_credentials_and_is_not_repeated() {
        assert!(parse_webhook_url(" https://app.example/hook?key=1 ").is_ok());
        let long = |length| format!("https://app.example/{}", "x".repeat(length - 20));
        assert!(parse_webhook_url(&long(MAX_URL)).is_ok());
        assert!(parse_webhook_url(&long(MAX_URL + 1)).is_err());
        for wrong in [
            "",
            "app.example",
            "ftp://a/",
            "https://me:secret@a/",
            "https://a/#secret",
        ] {
            let why = parse_webhook_url(wrong).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
        for (text, percent) in [("50", Ok(50)), (" 95", Ok(95))] {
            assert_eq!(parse_threshold(text), percent);
        }
        for wrong in ["0", "3", "100", "-5", "x", ""] {
            assert!(parse_threshold(wrong).is_err(), "{wrong}");
        }
    }
}

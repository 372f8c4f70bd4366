//! [`RedisOptions`]: the flags that name a Redis server, whole or in parts.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::port::{VariablePort, parse_port};
use crate::config::{RedisConfig, Secret, parse_switch};

/// Where states are published for other relays and services.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Redis")]
pub(in crate::cli) struct RedisOptions {
    /// redis://USER:PASSWORD@HOST:PORT/DATABASE; or redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DATABASE to ask
    /// sentinels for the server; or redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT with some nodes of a Redis Cluster; rediss
    /// in place of redis where it is encrypted; no Redis by default
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<RedisConfig>,

    /// Redis' host, if no URL is given
    #[arg(long, env = "REDIS_HOST", value_name = "HOST")]
    redis_host: Option<String>,

    /// Redis' port; 6379 by default
    #[arg(long, env = "REDIS_PORT", value_parser = parse_port, value_name = "PORT")]
    redis_port: Option<VariablePort>,

    /// The password, if the URL has none, as it is: nothing in it is decoded
    #[arg(
        long,
        env = "REDIS_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    redis_password: Option<Secret>,

    /// A file that holds the password
    #[arg(
        long,
        env = "REDIS_PASSWORD_FILE",
        conflicts_with = "redis_password",
        value_name = "FILE"
    )]
    redis_password_file: Option<PathBuf>,

    /// The password of the sentinels, if they have one
    #[arg(
        long,
        env = "REDIS_SENTINEL_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    redis_sentinel_password: Option<Secret>,

    /// PEM file with the authorities that may sign Redis' certificate; those of the operating system by default
    #[arg(long, env = "REDIS_CA_FILE", value_name = "FILE")]
    redis_ca_file: Option<PathBuf>,

    /// What stands before the names of channels and keys: relays of one database need the same, others another
    #[arg(
        long,
        env = "REDIS_PREFIX",
        default_value = "",
        value_parser = parse_prefix,
        hide_default_value = true,
        value_name = "TEXT"
    )]
    redis_prefix: String,

    /// Whether the channels of jobs on a Redis Cluster are sharded (SPUBLISH, Redis 7): for more subscribers than one node serves
    #[arg(
        long,
        env = "REDIS_SHARDED_CHANNELS",
        default_value = "off",
        value_parser = parse_switch,
        action = clap::ArgAction::Set,
        value_name = "on|off"
    )]
    redis_sharded_channels: bool,

    /// Whether programs may report progress on channels anime_progress_in:{job_id}, as they do over HTTP; any program that may
    /// publish there may report on any job
    #[arg(
        long,
        env = "REDIS_PROGRESS_IN",
        default_value = "off",
        value_parser = parse_switch,
        action = clap::ArgAction::Set,
        value_name = "on|off"
    )]
    redis_progress_in: bool,
}

fn parse_prefix(text: &str) -> Result<String, &'static str> {
    /// More than any name of a deployment; each message carries it.
    const MAX_PREFIX: usize = 64;
    let is_plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}' | '*' | '?' | '[' | ']');
    if text.len() > MAX_PREFIX || !text.chars().all(is_plain) {
        return Err("expected at most 64 characters of ASCII without spaces, {}, [], * and ?");
    }
    Ok(text.to_owned())
}

impl RedisOptions {
    /// The server that the settings name; `None` if they name none.
    pub(in crate::cli) fn redis(self) -> anyhow::Result<Option<RedisConfig>> {
        let has_port = |host: &str| host.contains(':') && !host.starts_with('[');
        let mut config = match (self.redis_url, self.redis_host) {
            (Some(config), _) => config,
            (None, Some(host)) => {
                let host = host.trim();
                let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
                let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
                if host.is_empty() || host.contains('/') || (has_port(host) && !is_address) {
                    bail!(
                        "REDIS_HOST (--redis-host) is not a name or address of a host; the port is REDIS_PORT's (--redis-port)"
                    );
                }
                let mut config = RedisConfig::new(bare.unwrap_or(host).to_owned());
                if let Some(port) = self.redis_port.and_then(|port| port.0) {
                    config.hosts[0].port = port;
                }
                config
            }
            (None, None) => return Ok(None),
        };
        if config.password.is_none() {
            config.password = match (self.redis_password, self.redis_password_file) {
                (Some(password), _) => Some(password),
                (None, Some(file)) => {
                    let text = std::fs::read_to_string(&file).with_context(|| {
                        format!(
                            "cannot read {} (--redis-password-file, REDIS_PASSWORD_FILE)",
                            file.display()
                        )
                    })?;
                    let password = text.trim_end_matches(['\r', '\n']);
                    if password.is_empty() {
                        bail!(
                            "{} holds no password (--redis-password-file, REDIS_PASSWORD_FILE)",
                            file.display()
                        );
                    }
                    Some(password.to_owned().into())
                }
                (None, None) => None,
            };
        }
        if let Some(file) = self.redis_ca_file {
            if !config.has_tls {
                bail!(
                    "a file of authorities is given (--redis-ca-file, REDIS_CA_FILE), but connections to Redis are not \
                     encrypted: write rediss:// in --redis-url (REDIS_URL)"
                );
            }
            config.ca_file = Some(file);
        }
        if self.redis_sharded_channels && !config.is_cluster {
            bail!(
                "only a Redis Cluster has sharded channels (--redis-sharded-channels, REDIS_SHARDED_CHANNELS): write \
                 redis+cluster:// in --redis-url (REDIS_URL), or leave them off"
            );
        }
        config.has_sharded_channels = self.redis_sharded_channels;
        config.takes_reports = self.redis_progress_in;
        config.prefix = self.redis_prefix;
        config.sentinel_password = self.redis_sentinel_password;
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_a_server() {
        for (host, shown) in [
            ("cache", "redis://:***@cache:7000"),
            ("::1", "redis://:***@[::1]:7000"),
            ("[::1]", "redis://:***@[::1]:7000"),
        ] {
            let options = RedisOptions {
                redis_host: Some(host.into()),
                redis_port: Some(VariablePort(Some(7000))),
                redis_password: Some("p#w".to_owned().into()),
                ..RedisOptions::default()
            };
            let config = options.redis().unwrap().unwrap();
            assert_eq!(config.to_string(), shown);
            assert_eq!(config.password.as_ref().map(Secret::expose), Some("p#w"));
        }
        for host in ["", "cache:6379", "redis://cache"] {
            let options = RedisOptions {
                redis_host: Some(host.into()),
                ..RedisOptions::default()
            };
            assert!(options.redis().is_err(), "{host}");
        }
    }

    #[test]
    fn a_port_without_a_host_names_no_server() {
        let options = RedisOptions {
            redis_port: Some(parse_port("tcp://10.0.0.7:6379").unwrap()),
            ..RedisOptions::default()
        };
        assert!(options.redis().unwrap().is_none());
        assert!(parse_port("6379 ").is_err() && parse_port("70000").is_err());
    }
}

//! [`LimitConfig`]: how much one client may ask of the relay.

use clap::builder::BoolishValueParser;

/// Limits per client. Zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits (0 for none)")]
pub struct LimitConfig {
    /// Requests a second from one address, and with tokens of one sub
    #[arg(
        long = "rate-limit-requests",
        env = "RATE_LIMIT_REQUESTS",
        default_value_t = LimitConfig::default().requests,
        value_name = "PER_SECOND"
    )]
    pub requests: u32,

    /// Connections a second from one address, and sockets a second with tokens of one sub
    #[arg(
        long = "rate-limit-connections",
        env = "RATE_LIMIT_CONNECTIONS",
        default_value_t = LimitConfig::default().attempts,
        value_name = "PER_SECOND"
    )]
    pub attempts: u32,

    /// Open connections in all
    #[arg(
        long = "max-connections",
        env = "MAX_CONNECTIONS",
        default_value_t = LimitConfig::default().connections,
        value_name = "NUMBER"
    )]
    pub connections: u32,

    /// Open connections from one address
    #[arg(
        long = "max-connections-per-address",
        env = "MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = LimitConfig::default().connections_per_address,
        value_name = "NUMBER"
    )]
    pub connections_per_address: u32,

    /// Apply the limits to clients on the relay's own machine as well
    #[arg(
        long = "limit-loopback",
        env = "LIMIT_LOOPBACK",
        value_parser = BoolishValueParser::new()
    )]
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

//! Whether Redis can be used.

use jiff::Timestamp;

use super::clock;
use super::finding::Finding;
use crate::broker::Broker;
use crate::config::RedisConfig;

pub(super) async fn check(config: Option<&RedisConfig>) -> Vec<Finding> {
    let check = "redis";
    let Some(config) = config else {
        return vec![Finding::ok(
            check,
            "there is none, and one relay needs none".to_owned(),
        )];
    };
    match Broker::check(config).await {
        Ok(there) => {
            let mut findings = vec![Finding::ok(check, format!("{config} can be used"))];
            let here = Timestamp::now();
            findings
                .extend(there.map(|there| clock::check("clock of redis".to_owned(), there, here)));
            findings
        }
        Err(reason) => vec![Finding::fault(
            check,
            format!("cannot use {config}: {reason}"),
            "start it, or correct its address and password (--redis-url, REDIS_URL, or --redis-host, REDIS_HOST, REDIS_PASSWORD)",
        )],
    }
}

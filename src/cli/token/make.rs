use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use jiff::{Span, SpanRelativeTo, Timestamp};

use super::checked_claims::CheckedClaims;
use crate::auth::{Grant, IssueError, Scope};
use crate::cli::exit_code::WrongSetting;
use crate::cli::output::print_line;
use crate::config::Secret;
use crate::job::JobId;

/// Make a token, signed with the relay's secret
///
/// Prints the token alone. A relay with AUTH_JWKS_FILE accepts tokens of whoever holds the private key
/// instead.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MakeArgs {
    /// Whose token it is: limits count by this name
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "NAME")]
    sub: String,

    /// The ids of the jobs that it is for, with commas between them; * for all
    #[arg(long, required = true, value_delimiter = ',', value_parser = parse_job, value_name = "IDS")]
    jobs: Vec<String>,

    /// What it permits on these jobs, with commas or spaces between the scopes
    #[arg(long, default_value = "subscribe", value_parser = parse_scopes, value_name = "SCOPES")]
    scope: ScopeList,

    /// How long it is valid, such as 30m, 2h or 7d
    #[arg(long = "for", default_value = "1h", value_parser = parse_duration, value_name = "DURATION")]
    lasts: Duration,

    /// The relay's secret. Better set in the environment: a list of processes shows flags
    #[arg(
        long = "auth-jwt-secret",
        env = "AUTH_JWT_SECRET",
        hide_env_values = true,
        required = true,
        value_name = "SECRET"
    )]
    secret: Secret,

    #[command(flatten)]
    checked: CheckedClaims,
}

/// Scopes as they are written in the claim `scope`, or with commas.
#[derive(Debug, Clone)]
struct ScopeList(Vec<Scope>);

pub(super) fn run(args: MakeArgs) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let is_for_all = args.jobs.iter().any(|job| job == "*");
    let grant = Grant {
        sub: args.sub,
        jobs: if is_for_all {
            vec!["*".to_owned()]
        } else {
            args.jobs
        },
        scopes: args.scope.0,
        audience: args.checked.audience,
        issuer: args.checked.issuer,
        issued_at: now,
        expires_at: now.checked_add(args.lasts).unwrap_or(Timestamp::MAX),
    };
    match grant.sign(&args.secret) {
        Ok(token) => print_line(token),
        Err(IssueError::Secret(error)) => return Err(WrongSetting(error.into()).into()),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_job(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text != "*" {
        JobId::parse(text).map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}

fn parse_scopes(text: &str) -> Result<ScopeList, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let scopes: Option<Vec<Scope>> = words
        .map(|word| Scope::ALL.into_iter().find(|scope| scope.as_str() == word))
        .collect();
    match scopes {
        Some(scopes) if !scopes.is_empty() => Ok(ScopeList(scopes)),
        _ => Err(format!(
            "expected some of {}",
            Scope::ALL.map(Scope::as_str).join(", ")
        )),
    }
}

/// Reads a time such as `30m`, `2h` or `7d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let read = || {
        let span: Span = text.parse().ok()?;
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        Duration::try_from(duration).ok()
    };
    read()
        .filter(|duration| duration.as_secs() > 0)
        .ok_or_else(|| "expected a duration of at least a second, such as 30m, 2h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("2h", 7_200),
            ("1h 30m", 5_400),
            ("7d", 604_800),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for wrong in ["", "2", "h", "-2h", "0s", "1ms", "two hours", "1 month"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}

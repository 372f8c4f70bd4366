use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use jiff::{Timestamp, Unit};

use super::checked_claims::CheckedClaims;
use crate::auth::{Claims, Scope, Token, Verifier};
use crate::cli::duration::duration;
use crate::cli::exit_code::WrongSetting;
use crate::cli::output::print_line;
use crate::config::{AccessConfig, KeySource, Secret};

/// Show what a token permits, and whether a relay accepts it
///
/// The token is an argument, RELAY_TOKEN, or standard input. With the relay's AUTH_JWT_SECRET or
/// AUTH_JWKS_FILE its signature is checked as well.
///
/// Exit code: 0 the token is good, 1 it is not.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CheckArgs {
    /// The token; - for standard input. Better passed in one of the other ways: a list of processes shows
    /// arguments
    #[arg(env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<Secret>,

    /// The relay's secret
    #[arg(
        long,
        env = "AUTH_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    auth_jwt_secret: Option<Secret>,

    /// The relay's file of public keys
    #[arg(
        long,
        env = "AUTH_JWKS_FILE",
        conflicts_with = "auth_jwt_secret",
        value_name = "FILE"
    )]
    auth_jwks_file: Option<PathBuf>,

    #[command(flatten)]
    checked: CheckedClaims,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let token = token(args.token.as_ref())?;
    let claims = Claims::unverified(&token);
    if let Some(claims) = &claims {
        print(claims);
    }
    match (verifier(args)?, claims) {
        (Some(verifier), _) => {
            verifier.verify(Some(&token))?;
            print_line(format_args!("signature  good"));
        }
        (None, None) => {
            return Err(anyhow!(
                "this is not a JSON Web Token, or it does not expire"
            ));
        }
        (None, Some(claims)) if claims.expires_at <= Timestamp::now() => {
            return Err(anyhow!("the token has expired; ask for a new one"));
        }
        (None, Some(_)) => {
            print_line(format_args!(
                "signature  not checked: set AUTH_JWT_SECRET or AUTH_JWKS_FILE"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn token(given: Option<&Secret>) -> anyhow::Result<Token> {
    let mut text = String::new();
    match given.map(Secret::expose) {
        Some(token) if token != "-" => token.clone_into(&mut text),
        None if std::io::stdin().is_terminal() => {}
        _ => {
            let read = std::io::stdin().read_to_string(&mut text);
            read.context("cannot read the token from standard input")?;
        }
    }
    let text = text.trim();
    if text.is_empty() {
        let error = anyhow!(
            "there is no token: give it as an argument, in RELAY_TOKEN or on standard input"
        );
        return Err(WrongSetting(error).into());
    }
    Ok(Token::new(text.to_owned()))
}

/// Verifies as the relay does; `None` without its key.
fn verifier(args: &CheckArgs) -> anyhow::Result<Option<Verifier>> {
    let keys = match (&args.auth_jwt_secret, &args.auth_jwks_file) {
        (Some(secret), _) => KeySource::Secret(secret.clone()),
        (None, Some(file)) => KeySource::File(file.clone()),
        (None, None) => return Ok(None),
    };
    let config = AccessConfig {
        keys: Some(keys),
        audience: args.checked.audience.clone(),
        issuer: args.checked.issuer.clone(),
        ..AccessConfig::default()
    };
    let verifier = Verifier::load(&config).map_err(|error| WrongSetting(error.into()))?;
    Ok(Some(verifier))
}

/// Prints what a token says of itself. It may hold anything, so that nothing of it reaches the terminal as it is.
fn print(claims: &Claims) {
    let list = |words: &[String], separator| match words {
        [] => "none".to_owned(),
        words => words.join(separator).escape_debug().to_string(),
    };
    let is_for_all = claims.jobs.iter().any(|job| job == "*");
    let jobs = if is_for_all {
        "all".to_owned()
    } else {
        list(&claims.jobs, ", ")
    };
    let sub = claims.sub.as_deref().unwrap_or("none");
    print_line(format_args!("sub        {}", sub.escape_debug()));
    print_line(format_args!("jobs       {jobs}"));
    print_line(format_args!("scope      {}", list(&claims.scope, " ")));
    let is_known = |word: &&String| Scope::ALL.iter().any(|scope| scope.as_str() == **word);
    for word in claims.scope.iter().filter(|word| !is_known(word)) {
        print_line(format_args!(
            "           {word:?} is not a scope, and permits nothing"
        ));
    }
    let left = claims.expires_at.duration_since(Timestamp::now());
    let distance = duration(left.as_secs().unsigned_abs());
    let when = if left.is_positive() {
        format!("in {distance}")
    } else {
        format!("{distance} ago")
    };
    let expires_at = claims.expires_at.round(Unit::Second);
    print_line(format_args!(
        "expires    {}, {when}",
        expires_at.unwrap_or(claims.expires_at)
    ));
}

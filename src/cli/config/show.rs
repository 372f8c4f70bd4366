//! `comfy-relay config show`: every setting of `serve` that is in effect, and where it comes from.

use std::any::TypeId;
use std::fmt::{self, Display};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use url::Url;

use crate::cli::environment::{SettingOrigin, origin};
use crate::cli::output::print_line;
use crate::cli::serve::ServeArgs;
use crate::cli::settings::Settings;
use crate::config::{Database, RedisConfig, ServerUrl};
use crate::job::printable;

/// Show every setting that serve would start with, and where each comes from
///
/// As a file of settings, with the origin as a comment: default, environment, the line of the file, or flag. Takes the flags of
/// serve. Secrets, and passwords in addresses, are not shown.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ConfigShowArgs {
    #[command(flatten)]
    serve: ServeArgs,
}

/// One setting.
struct ShownSetting {
    name: String,
    /// As TOML; `None` if it has none.
    value: Option<String>,
    origin: String,
}

pub(super) fn run(args: ConfigShowArgs, settings: &Settings<'_>) {
    let show = (settings.command.find_subcommand("config"))
        .and_then(|config| config.find_subcommand("show"));
    let matches = (settings.matches.subcommand())
        .and_then(|(_, config)| config.subcommand())
        .map(|(_, show)| show);
    let (Some(show), Some(matches)) = (show, matches) else {
        return;
    };
    let computed = computed(args.serve);
    let mut heading = None;
    for arg in show.get_arguments() {
        let Some(mut shown) = shown(arg, matches, settings) else {
            continue;
        };
        if shown.value.is_none() {
            let known = computed.iter().find(|(name, _)| *name == shown.name);
            shown.value = known.map(|(_, value)| quoted(value));
        }
        if heading != Some(arg.get_help_heading()) {
            if heading.is_some() {
                print_line("");
            }
            heading = Some(arg.get_help_heading());
            if let Some(heading) = arg.get_help_heading() {
                print_line(format_args!("# {heading}"));
            }
        }
        print_line(printable(&shown.to_string()));
    }
}

impl Display for ShownSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}  # {}", self.name, self.origin),
            None => write!(f, "# {} is not set", self.name),
        }
    }
}

/// Defaults that depend on the machine, or on other settings.
fn computed(serve: ServeArgs) -> Vec<(&'static str, String)> {
    let Ok(config) = serve.into_config() else {
        return Vec::new();
    };
    let mut computed = vec![("workflows", config.relay.workflows.display().to_string())];
    if let Database::Sqlite(_) = &config.store.database {
        computed.push(("database_url", config.store.database.to_string()));
    }
    let files = [
        ("cache_dir", config.server.cache_dir),
        ("queue_key_file", config.relay.queue_key_file),
    ];
    for (name, path) in files {
        computed.extend(path.map(|path| (name, path.display().to_string())));
    }
    computed
}

/// `None` for what is no setting: the help.
fn shown(arg: &Arg, matches: &ArgMatches, settings: &Settings<'_>) -> Option<ShownSetting> {
    arg.get_env()?;
    // The name of the variable in lower case, whatever variable has set it.
    let name = arg.get_long()?.replace('-', "_");
    let id = arg.get_id().as_str();
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => format!("flag --{}", arg.get_long()?),
        Some(ValueSource::EnvVariable) => match origin(arg, settings.file)? {
            SettingOrigin::Variable(name) => format!("environment {name}"),
            SettingOrigin::File { place, .. } => place,
        },
        _ => "default".to_owned(),
    };
    let value = value(arg, matches);
    Some(ShownSetting {
        name,
        value,
        origin,
    })
}

/// The values of a setting as TOML; what may be secret is not shown.
fn value(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    matches.value_source(id)?;
    let texts: Vec<String> = if !arg.is_hide_env_values_set() {
        let raw = matches.get_raw(id)?;
        raw.map(|text| text.to_string_lossy().into_owned())
            .collect()
    } else {
        match arg.get_value_parser().type_id() {
            of if of == TypeId::of::<ServerUrl>() => addresses::<ServerUrl>(id, matches),
            of if of == TypeId::of::<Database>() => addresses::<Database>(id, matches),
            of if of == TypeId::of::<RedisConfig>() => addresses::<RedisConfig>(id, matches),
            of if of == TypeId::of::<Url>() => {
                // Path and query of a webhook are often its only secret.
                let hosts = matches.get_many::<Url>(id).unwrap_or_default();
                hosts
                    .map(|url| format!("{}/***", url.origin().ascii_serialization()))
                    .collect()
            }
            _ => vec!["***".to_owned()],
        }
    };
    match texts.as_slice() {
        [text] => Some(quoted(text)),
        texts => {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            Some(format!("[{}]", texts.join(", ")))
        }
    }
}

/// Addresses as they print themselves: without passwords.
fn addresses<T: Display + Clone + Send + Sync + 'static>(
    id: &str,
    matches: &ArgMatches,
) -> Vec<String> {
    let values = matches.get_many::<T>(id).unwrap_or_default();
    values.map(T::to_string).collect()
}

/// A value of TOML: numbers, `true` and `false` as they are, and everything else as a text.
fn quoted(text: &str) -> String {
    let is_plain = text.parse::<i64>().is_ok() && !text.starts_with(['+', '0']);
    if is_plain || matches!(text, "true" | "false" | "0") {
        text.to_owned()
    } else {
        // The escapes of JSON are those of TOML.
        serde_json::Value::from(text).to_string()
    }
}

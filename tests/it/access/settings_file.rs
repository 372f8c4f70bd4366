//! The file of settings: every setting in it arrives, below the environment and flags, and nothing wrong in it is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reqwest::{Client, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::support::program::Program;
use crate::support::tokens::{SECRET, token};

/// Part of every password here. Nothing that is printed may repeat it.
const PASSWORD: &str = "hunter2";

/// The signing secret of a webhook that is one.
const WEBHOOK_SECRET: &str = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI=";

/// A value of each setting that is not its default, as TOML, and how it is shown if that differs.
const VALUES: &[(&str, &str, Option<&str>)] = &[
    ("allowed_origins", r#"["https://a.example", "null"]"#, None),
    ("auth_audience", r#""relay""#, None),
    ("auth_issuer", r#""issuer""#, None),
    ("auth_jwks_file", r#""keys.json""#, None),
    (
        "auth_jwt_secret",
        r#""hunter2hunter2hunter2hunter2hunter2""#,
        Some(r#""***""#),
    ),
    (
        "backend_labels",
        r#"["gpu1:1:gpu=a100,room=2", "gpu2:2:gpu=h100"]"#,
        None,
    ),
    ("backend_networks", r#""10.0.7.0/24""#, None),
    ("cache_dir", r#""thumbs""#, None),
    ("cache_size", "12", None),
    ("comfy_api_key", r#""hunter2""#, Some(r#""***""#)),
    ("comfy_api_key_file", r#""key""#, None),
    ("comfy_listen", r#""127.0.0.1:8189""#, None),
    ("comfyui_ca_file", r#""ca.pem""#, None),
    (
        "comfyui_token",
        r#""hunter2 # no comment""#,
        Some(r#""***""#),
    ),
    (
        "comfyui_url",
        r#"["http://me:hunter2@gpu1:1", "http://gpu2:2"]"#,
        Some(r#"["http://gpu1:1/", "http://gpu2:2/"]"#),
    ),
    (
        "database_url",
        r#""postgres://me:hunter2@db/jobs""#,
        Some(r#""postgres://me:***@db:5432/jobs""#),
    ),
    ("db_host", r#""db""#, None),
    ("db_name", r#""jobs""#, None),
    ("db_password", r#""hunter2""#, Some(r#""***""#)),
    ("db_port", "5433", None),
    ("db_schema", r#""relay2""#, None),
    ("db_sslmode", r#""require""#, None),
    ("db_sslrootcert", r#""system""#, None),
    ("db_user", r#""me""#, None),
    ("discovery", r#""off""#, None),
    ("dispatch", r#""direct""#, None),
    ("dispatch_depth", "3", None),
    ("fair_share", "true", None),
    ("fan_out_threads", "3", None),
    ("free_after_oom", r#""on""#, None),
    ("insecure", "true", None),
    ("io_uring", r#""off""#, None),
    ("keep_outputs", r#""kept""#, None),
    ("limit_loopback", "true", None),
    (
        "link_secret",
        r#""hunter2hunter2hunter2hunter2hunter2""#,
        Some(r#""***""#),
    ),
    ("listen", "9001", None),
    ("log", r#""comfy_relay=debug""#, None),
    ("log_format", r#""json""#, None),
    ("lost_after", "61", None),
    ("max_connections", "7", None),
    ("max_connections_per_address", "6", None),
    (
        "otel_exporter_otlp_endpoint",
        r#""http://127.0.0.1:4318/""#,
        Some(r#""http://127.0.0.1:4318/***""#),
    ),
    ("output_root", r#""out""#, None),
    ("pipeline_insert", "true", None),
    ("pipeline_table", r#""anime.jobs""#, None),
    ("producer_timeout", "0x10", Some("16")),
    ("public_url", r#""https://relay.example/a/""#, None),
    ("publish_rate", "5", None),
    ("queue_key_file", r#""queue.key""#, None),
    ("queue_limit", "1_000", Some("1000")),
    ("queue_limit_per_sub", "10", None),
    ("rate_limit_connections", "11", None),
    ("rate_limit_requests", "12", None),
    ("redis_ca_file", r#""ca.pem""#, None),
    ("redis_host", r#""cache""#, None),
    ("redis_password", r#""hunter2""#, Some(r#""***""#)),
    ("redis_password_file", r#""password""#, None),
    ("redis_sentinel_password", r#""hunter2""#, Some(r#""***""#)),
    ("redis_port", "6380", None),
    ("redis_prefix", r#""a:""#, None),
    ("redis_progress_in", r#""on""#, None),
    ("redis_sharded_channels", r#""on""#, None),
    (
        "redis_url",
        r#""rediss+cluster://:hunter2@one:1,two:2""#,
        Some(r#""rediss+cluster://:***@one:1,two:2""#),
    ),
    ("remember", "60", None),
    ("retention_days", "30", None),
    ("stalled_after", "100", None),
    ("submit_wait", "11", None),
    ("tls_cert", r#""cert.pem""#, None),
    ("tls_key", r#""key.pem""#, None),
    ("trusted_proxies", r#"["10.0.0.1", "10.1.0.0/16"]"#, None),
    ("webhook_ca_file", r#""ca.pem""#, None),
    ("webhook_hosts", r#"["a.example", "*.b.example"]"#, None),
    ("webhook_networks", r#""10.0.7.0/24""#, None),
    ("webhook_progress", "[25, 50]", None),
    (
        "webhook_secret",
        r#""whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI=""#,
        Some(r#""***""#),
    ),
    (
        "webhook_url",
        r#""https://hooks.example/hunter2?key=hunter2""#,
        Some(r#""https://hooks.example/***""#),
    ),
    ("websocket_cleanup_interval", "61", None),
    ("websocket_connection_timeout", "301", None),
    ("websocket_job_wait", "31", None),
    ("websocket_ping_interval", "29", None),
    ("workflows", r#""src""#, None),
];

/// Settings that another one excludes.
const EXCLUDED: [&str; 3] = [
    "auth_jwks_file",
    "comfy_api_key_file",
    "redis_password_file",
];

/// Those that exclude them: secrets whose files have settings of their own.
const EXCLUDING: [&str; 3] = ["auth_jwt_secret", "comfy_api_key", "redis_password"];

/// A file of settings, in a folder of its own.
fn settings_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// What a command prints, with its exit code, and without the variables of the machine.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Program::run(arguments, variables).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    for secret in [PASSWORD, SECRET, WEBHOOK_SECRET] {
        assert!(!stdout.contains(secret), "{stdout}");
        assert!(!stderr.contains(secret), "{stderr}");
    }
    (output.status.code(), stdout, stderr)
}

/// Value and origin of every setting that `config show` names; of those that are not set, neither.
async fn shown(
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> BTreeMap<String, (String, String)> {
    let (code, text, errors) = run(&[&["config", "show"], arguments].concat(), variables).await;
    assert_eq!(code, Some(0), "{errors}");
    let mut settings = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once(" = ") {
            let (value, origin) = rest.rsplit_once("  # ").unwrap();
            settings.insert(name.to_owned(), (value.to_owned(), origin.to_owned()));
        } else if let Some(name) = line.strip_suffix(" is not set") {
            let name = name.strip_prefix("# ").unwrap().to_owned();
            settings.insert(name, Default::default());
        }
    }
    settings
}

/// Writes these settings into a file, one a line, and expects each of them to be shown with its line.
async fn arrives(settings: &[(String, &str, &str, &str)]) {
    let lines: Vec<String> = settings
        .iter()
        .map(|(key, value, ..)| format!("{key} = {value}"))
        .collect();
    let (_folder, path) = settings_file(&lines.join("\n"));
    let path = path.to_str().unwrap();
    let shown = shown(&["--config", path], &[]).await;
    for (line, (key, _, name, expected)) in (1..).zip(settings) {
        let (value, origin) = &shown[*name];
        assert_eq!(
            (value.as_str(), origin),
            (*expected, &format!("{path}:{line}")),
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_the_file_arrives_with_its_line() {
    let (_, help, _) = run(&["serve", "--help"], &[]).await;
    let flags = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"));
    let flags = flags.map(|line| line.split(' ').next().unwrap().replace('-', "_"));
    let all: BTreeSet<String> = flags.filter(|name| name != "config").collect();
    let values: BTreeSet<String> = VALUES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(all, values, "a setting has no value in this test");
    let mut names: BTreeSet<String> = shown(&[], &[]).await.into_keys().collect();
    names.remove("config");
    assert_eq!(all, names, "config show does not show every setting");

    let setting = |&(name, value, shown): &(&'static str, &'static str, Option<&'static str>)| {
        (name.to_owned(), value, name, shown.unwrap_or(value))
    };
    let without = |excluded: [&'static str; 3]| -> Vec<_> {
        let kept = VALUES.iter().filter(|(name, ..)| !excluded.contains(name));
        kept.map(setting).collect()
    };
    arrives(&without(EXCLUDED)).await;
    arrives(&without(EXCLUDING)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secret_of_the_file_can_be_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let with_own_setting = ["comfy_api_key", "redis_password"];
    let mut files = Vec::new();
    let secrets = VALUES.iter().filter(|(_, value, shown)| {
        shown.is_some_and(|shown| shown.contains("***")) && value.contains(PASSWORD)
            || *value == format!("{WEBHOOK_SECRET:?}")
    });
    for (name, value, shown) in
        secrets.filter(|(name, ..)| !with_own_setting.contains(name) && *name != "webhook_url")
    {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{}\n", value.trim_matches('"'))).unwrap();
        files.push((
            format!("{name}_file"),
            format!("{:?}", path.to_str().unwrap()),
            *name,
            shown.unwrap(),
        ));
    }
    let settings: Vec<_> = files
        .iter()
        .map(|(key, path, name, shown)| (key.clone(), path.as_str(), *name, *shown))
        .collect();
    assert!(settings.len() >= 7, "{settings:?}");
    arrives(&settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_variables_and_variables_over_the_file() {
    let text = "dispatch_depth = 3\nremember = 4\nlost_after = 5\nlisten = 9001\nauth_jwt_secret = \"short\"\nauth_jwt_secret_file = \"nowhere\"";
    let (_folder, path) = settings_file(text);
    let path = path.to_str().unwrap();
    let variables = [
        ("CONFIG", path),
        ("COMFY_RELAY_REMEMBER", "40"),
        ("LOST_AFTER", "50 # seconds"),
        ("PORT", "9002"),
        ("AUTH_JWT_SECRET", SECRET),
    ];
    let shown = shown(&["--lost-after", "500"], &variables).await;
    for (name, value, origin) in [
        (
            "config",
            format!("{path:?}"),
            "environment CONFIG".to_owned(),
        ),
        ("dispatch_depth", "3".to_owned(), format!("{path}:1")),
        (
            "remember",
            "40".to_owned(),
            "environment COMFY_RELAY_REMEMBER".to_owned(),
        ),
        (
            "lost_after",
            "500".to_owned(),
            "flag --lost-after".to_owned(),
        ),
        ("listen", "9001".to_owned(), format!("{path}:4")),
        (
            "auth_jwt_secret",
            "\"***\"".to_owned(),
            "environment AUTH_JWT_SECRET".to_owned(),
        ),
        ("submit_wait", "10".to_owned(), "default".to_owned()),
    ] {
        assert_eq!(shown[name], (value, origin), "{name}");
    }
    assert_eq!(shown["redis_host"], Default::default());
    // What depends on the machine is shown as well.
    assert!(
        shown["database_url"].0.starts_with("\"sqlite:"),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_runs_with_what_its_file_says() {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nauth_jwt_secret = \"{SECRET}\"\ncomfyui_url = [\"http://localhost:1\", \"http://localhost:2\"]\n"
    );
    let (_folder, path) = settings_file(&text);
    let unset = [("LISTEN", ""), ("COMFYUI_URL", "")];
    let program = Program::start(&["--config", path.to_str().unwrap()], &unset);
    program.ready().await;
    program.logs("http://localhost:2").await;
    assert!(!program.log().contains(SECRET), "{}", program.log());
    let jobs = format!("http://{}/api/anime/jobs", program.address());
    let client = Client::builder().no_proxy().build().unwrap();
    let anonymous = client.get(&jobs).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    let known = client.get(&jobs).bearer_auth(token(&json!({})));
    assert_eq!(known.send().await.unwrap().status(), StatusCode::OK);
}

/// The text of a file, what `serve` says of it, and how.
async fn refuses(text: &str, expected: &[&str]) {
    let (_folder, path) = settings_file(text);
    let path = path.to_str().unwrap();
    let (code, _, errors) = run(&["--config", path, "serve"], &[("LISTEN", "127.0.0.1:0")]).await;
    assert_eq!(code, Some(64), "{text}: {errors}");
    for word in expected {
        let word = word.replace("FILE", path);
        assert!(
            errors.contains(&word),
            "{word:?} is missing: {text}: {errors}"
        );
    }
    assert!(!errors.contains("serving "), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_file_ends_the_start_with_its_line() {
    refuses(
        "remember = 1\ndispatch_dept = 3\nlisen = 1\n",
        &[
            "FILE:2: dispatch_dept is not a setting; dispatch_depth is",
            "FILE:3: lisen",
        ],
    )
    .await;
    refuses(
        "[redis]\nurl = \"redis://:hunter2@cache\"",
        &["FILE:1: redis is not a setting"],
    )
    .await;
    refuses("remember = [1]", &["FILE:1: remember is a list; expected"]).await;
    refuses(
        "\nremember = \"a while\"",
        &[
            "'a while'",
            "remember in FILE:2 (--remember <SECONDS>)",
            "number of seconds",
        ],
    )
    .await;
    refuses("remember = 1\nremember = 2", &["FILE:2: ", "duplicate key"]).await;
    refuses("auth_jwt_secret = \"hunter2", &["FILE:1: "]).await;
    refuses(
        "database_url = \"mysql://me:hunter2@db\"",
        &["'***' for 'database_url in FILE:1 (--database-url <URL>)'"],
    )
    .await;
    refuses("auth_jwt_secret = \"\"", &["needs 32"]).await;
    refuses(
        "auth_jwt_secret = \"hunter2\"\nauth_jwt_secret_file = \"x\"",
        &["auth_jwt_secret_file in FILE:2", "given twice"],
    )
    .await;
    refuses(
        "websocket_ping_interval = 301",
        &["websocket_ping_interval in FILE:1"],
    )
    .await;
    refuses("tls_cert = \"a\"", &["--tls-key"]).await;
    refuses(
        "config = \"other.toml\"",
        &["FILE:1: config is not a setting"],
    )
    .await;
    refuses("log = \"a=b=c\"", &["log in FILE:1 (--log"]).await;
    let (code, _, errors) = run(&["serve"], &[("CONFIG", "nowhere.toml")]).await;
    assert_eq!(code, Some(64));
    assert!(
        errors.contains("cannot read the settings file nowhere.toml (--config, CONFIG)"),
        "{errors}"
    );
}

/// The errors of `config check`, one a line.
async fn checked(path: &Path, variables: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let (code, _, errors) = run(&["config", "check", path.to_str().unwrap()], variables).await;
    let lines = errors
        .lines()
        .map(|line| line.strip_prefix("error: ").unwrap_or(line).to_owned());
    (code, lines.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_answers_with_every_problem() {
    let text = "dispatch_dept = 3\nremember = \"long\"\ncomfyui_url = \"ftp://me:hunter2@host\"\n[redis]\nurl = 1\n";
    let (_folder, path) = settings_file(text);
    let (code, errors) = checked(&path, &[("FAN_OUT_THREADS", "0")]).await;
    assert_eq!(code, Some(64), "{errors:#?}");
    for word in [
        "dispatch_dept",
        "remember in",
        "comfyui_url in",
        "redis is not",
        "FAN_OUT_THREADS (--fan",
    ] {
        assert!(
            errors.iter().any(|line| line.contains(word)),
            "{word}: {errors:#?}"
        );
    }
    assert_eq!(errors.len(), 5, "{errors:#?}");
    // Settings that are right for themselves and do not fit together.
    let text = "listen = \"0.0.0.0:1\"\nwebsocket_ping_interval = 301\ndb_host = \"db\"\nbackend_labels = \"gpu:gpu=1\"\nredis_host = \"a:1\"\n";
    let (_folder, path) = settings_file(text);
    let (code, errors) = checked(&path, &[]).await;
    assert_eq!(code, Some(64), "{errors:#?}");
    for word in [
        "listen in",
        "websocket_ping_interval in",
        "db_host in",
        "backend_labels in",
        "redis_host in",
    ] {
        assert!(
            errors.iter().any(|line| line.contains(word)),
            "{word}: {errors:#?}"
        );
    }
    assert_eq!(errors.len(), 5, "{errors:#?}");
    for (text, word) in [
        ("tls_cert = \"nowhere\"\ntls_key = \"nowhere\"", "nowhere"),
        ("tls_cert = \"nowhere\"", "--tls-key"),
        ("auth_jwks_file = \"nowhere\"", "nowhere"),
        ("webhook_url = \"https://a.example/x\"", "WEBHOOK_SECRET"),
        ("comfyui_ca_file = \"nowhere\"", "nowhere"),
        ("auth_jwt_secret = \"hunter2\\u0000\"", "NUL"),
        ("a = ", ":1: "),
    ] {
        let (_folder, path) = settings_file(text);
        let (code, errors) = checked(&path, &[]).await;
        assert_eq!(code, Some(64), "{text}: {errors:#?}");
        assert!(errors[0].contains(word), "{text}: {errors:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("made/relay.db");
    let path = folder.path().join("relay.toml");
    std::fs::write(
        &path,
        format!("database_url = \"sqlite:{}\"", database.display()),
    )
    .unwrap();
    let (code, errors) = checked(&path, &[]).await;
    assert_eq!((code, errors.len()), (Some(0), 0), "{errors:#?}");
    assert!(!folder.path().join("made").exists());
    // The file that --config names is checked as well.
    std::fs::write(&path, "a = 1").unwrap();
    let arguments = ["config", "check", "--config", path.to_str().unwrap()];
    let (code, _, errors) = run(&arguments, &[]).await;
    assert_eq!(code, Some(64), "{errors}");
}

//! What the program says to settings that cannot be right: exit code 64, and a text that names the setting.

use crate::support::program::Program;
use crate::support::tokens::SECRET;

/// Part of every password here. No text may repeat it.
const PASSWORD: &str = "hunter2";

/// Arguments, variables, and what the text contains.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

/// Runs the program to its end, which it must reach by itself.
async fn refuses(case: &Case<'_>) {
    let (arguments, variables, expected) = case;
    let mut program = Program::start_command(arguments, variables);
    let code = program.exit_status().await.code();
    let text = program.log();
    let case = format!("{arguments:?} {variables:?}");
    assert_eq!(code, Some(64), "{case}: {text}");
    for word in *expected {
        assert!(text.contains(word), "{word:?} is missing: {case}: {text}");
    }
    for secret in [PASSWORD, SECRET] {
        assert!(
            !text.contains(secret),
            "a secret is repeated: {case}: {text}"
        );
    }
    assert!(!text.contains("serving "), "{case}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_addresses_and_numbers_name_the_setting() {
    let cases: &[Case<'_>] = &[
        (
            &["serve", "--listen", "nowhere"],
            &[],
            &["'nowhere' for '--listen <HOST:PORT>'", "0.0.0.0:8328"],
        ),
        (
            &["serve"],
            &[("LISTEN", "nowhere")],
            &["LISTEN (--listen <HOST:PORT>)"],
        ),
        (
            &["serve"],
            &[("COMFY_RELAY_LISTEN", "nowhere")],
            &["'COMFY_RELAY_LISTEN (--listen <HOST:PORT>)'"],
        ),
        (
            &["serve"],
            &[("LISTEN", "gpu.example:9001")],
            &["LISTEN", "IP address"],
        ),
        (&["serve"], &[("LISTEN", "99999")], &["LISTEN"]),
        (
            &["serve"],
            &[(
                "COMFYUI_URL",
                "http://127.0.0.1:8188,http://127.0.0.1:8188/",
            )],
            &["one server", "COMFYUI_URL"],
        ),
        (
            &["serve"],
            &[("COMFYUI_URL", "localhost:8188,https://gpu:8188,[::1]:8188")],
            &[
                "http://localhost:8188",
                "http://[::1]:8188",
                "--comfyui-url",
            ],
        ),
        (
            &["serve"],
            &[
                ("COMFYUI_URL", "gpu1:8188,gpu2:8188"),
                ("BACKEND_LABELS", "gpu1:8188:gpu=a100;gpu3:8188:gpu=h100"),
            ],
            &["gpu3:8188", "BACKEND_LABELS", "gpu1:8188, gpu2:8188"],
        ),
        (
            &["serve", "--backend-labels", "gpu1:8188"],
            &[],
            &["--backend-labels", "NAME:KEY=TEXT"],
        ),
        (
            &["serve", "--backend-networks", "10.0.0.0/8,gpu"],
            &[],
            &["--backend-networks", "'gpu'", "10.0.0.0/8"],
        ),
        (
            &["serve", "--websocket-ping-interval", "301"],
            &[],
            &["WEBSOCKET_PING_INTERVAL", "every 301 s", "for 300 s"],
        ),
        (
            &["serve"],
            &[("REDIS_URL", "redis://:hunter2@")],
            &["REDIS_URL (--redis-url", "redis://USER:PASSWORD@HOST"],
        ),
        (
            &["serve"],
            &[("REDIS_URL", "redis+cluster://:hunter2@cache/1")],
            &["REDIS_URL", "a Redis Cluster has database 0 alone"],
        ),
        (
            &["serve", "--redis-sharded-channels", "on"],
            &[("REDIS_HOST", "cache")],
            &["REDIS_SHARDED_CHANNELS", "redis+cluster://"],
        ),
        (
            &["serve"],
            &[("REDIS_HOST", "cache:6379")],
            &["REDIS_HOST (--redis-host)", "REDIS_PORT"],
        ),
        (
            &["serve"],
            &[("REDIS_HOST", "cache"), ("REDIS_PREFIX", "a b")],
            &["REDIS_PREFIX (--redis-prefix", "at most 64 characters"],
        ),
        (
            &["serve", "--redis-host", "cache"],
            &[("REDIS_PASSWORD_FILE", "/nowhere")],
            &["/nowhere", "REDIS_PASSWORD_FILE"],
        ),
        (
            &["serve", "--redis-host", "cache"],
            &[("REDIS_CA_FILE", "ca.pem")],
            &["REDIS_CA_FILE", "rediss://"],
        ),
        (
            &["serve", "--listen", "0.0.0.0:0"],
            &[],
            &["(--listen, LISTEN)", "AUTH_JWT_SECRET", "--insecure"],
        ),
        (
            &["serve"],
            &[("COMFY_RELAY_LISTEN", "0.0.0.0:0")],
            &["(--listen, COMFY_RELAY_LISTEN)"],
        ),
        (
            &["serve"],
            &[("WEBSOCKET_PING_INTERVAL", "30s")],
            &["'30s'", "WEBSOCKET_PING_INTERVAL (--websocket-ping"],
        ),
        (
            &["serve"],
            &[("WEBSOCKET_PING_INTERVAL", "0 # never")],
            &["'0'", "WEBSOCKET_PING_INTERVAL", "at least 1"],
        ),
        (
            &["serve"],
            &[("WEBSOCKET_PING_INTERVAL", "30#seconds")],
            &["'30#seconds'", "WEBSOCKET_PING_INTERVAL"],
        ),
        (
            &["serve"],
            &[("WEBSOCKET_CONNECTION_TIMEOUT", "-1")],
            &["WEBSOCKET_CONNECTION_TIMEOUT"],
        ),
        (
            &["serve"],
            &[("WEBSOCKET_CLEANUP_INTERVAL", "a minute")],
            &["WEBSOCKET_CLEANUP_INTERVAL"],
        ),
        (
            &["serve"],
            &[("WEBSOCKET_JOB_WAIT", "0.5")],
            &["WEBSOCKET_JOB_WAIT"],
        ),
        (
            &["serve"],
            &[("REMEMBER", "18446744073709551615")],
            &["REMEMBER", "ten years"],
        ),
        (
            &["serve"],
            &[("PUBLISH_RATE", "1001")],
            &["PUBLISH_RATE", "from 0 to 1000"],
        ),
        (
            &["serve"],
            &[("FAN_OUT_THREADS", "0")],
            &["FAN_OUT_THREADS"],
        ),
        (
            &["serve"],
            &[("IO_URING", "on")],
            &["IO_URING", "auto, off"],
        ),
        (
            &["serve"],
            &[("MAX_CONNECTIONS", "many")],
            &["MAX_CONNECTIONS"],
        ),
        (
            &["serve"],
            &[("RATE_LIMIT_REQUESTS", "-5")],
            &["RATE_LIMIT_REQUESTS"],
        ),
        (
            &["serve"],
            &[("LIMIT_LOOPBACK", "maybe")],
            &["LIMIT_LOOPBACK (--limit-loopback)"],
        ),
        (
            &["serve"],
            &[("INSECURE", "perhaps")],
            &["INSECURE (--insecure)"],
        ),
        (&["serve"], &[("LOG", "a=b=c")], &["LOG"]),
        (&["serve", "--no-such-flag"], &[], &["--no-such-flag"]),
    ];
    for case in cases {
        refuses(case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_servers_and_files_name_the_setting_and_no_secret() {
    let url = format!("mysql://me:{PASSWORD}@db/x");
    let no_name = format!("postgres://me:{PASSWORD}@db");
    let ftp = format!("ftp://me:{PASSWORD}@host");
    let query = format!("http://good,http://me:{PASSWORD}@host/?q");
    let postgres = |rest: &str| format!("postgres://me:{PASSWORD}{rest}");
    let (bad_percent, bare_slash) = (postgres("%zz@db/n"), postgres("/x@db/n"));
    let unknown = postgres("@db/n?sslmod=require");
    let (mode, weak) = (
        postgres("@db/n?sslmode=allow"),
        postgres("@db/n?sslmode=verify-ca"),
    );
    let bare_ipv6 = postgres("@::1/n");
    let cases: &[Case<'_>] = &[
        (
            &["serve"],
            &[("DATABASE_URL", &url)],
            &[
                "'***' for 'DATABASE_URL (--database-url <URL>)'",
                "postgres://",
            ],
        ),
        (
            &["serve"],
            &[("COMFY_RELAY_DATABASE_URL", &no_name)],
            &["COMFY_RELAY_DATABASE_URL (--database-url"],
        ),
        (
            &["serve", "--database-url", &url],
            &[],
            &["'***' for '--database-url <URL>'"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", ""), ("DB_HOST", "db")],
            &["DB_HOST is given", "DB_NAME"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", ""), ("DB_USER", "relay")],
            &["DB_USER is given", "DB_NAME"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", ""), ("COMFY_RELAY_DB_PASSWORD", PASSWORD)],
            &["COMFY_RELAY_DB_PASSWORD is given", "DB_NAME"],
        ),
        (
            &["serve"],
            &[
                ("DATABASE_URL", ""),
                ("DB_NAME", "n"),
                ("DB_HOST", "db:5432"),
            ],
            &["DB_HOST", "DB_PORT"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", ""), ("DB_SSLMODE", "always")],
            &["DB_SSLMODE (--db-sslmode", "verify-full"],
        ),
        (
            &["serve"],
            &[
                ("DATABASE_URL", ""),
                ("DB_NAME", "n"),
                ("DB_SSLMODE", "verify-ca"),
            ],
            &["verify-ca needs sslrootcert", "DB_SSLROOTCERT"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", &bad_percent)],
            &["DATABASE_URL", "two hexadecimal digits", "%25"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", &bare_slash)],
            &["DATABASE_URL", "%2F"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", &bare_ipv6)],
            &["DATABASE_URL", "[::1]"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", &unknown)],
            &["DATABASE_URL", "unknown parameter", "sslmod"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", &mode)],
            &["DATABASE_URL", "verify-full"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", &weak)],
            &["DATABASE_URL", "sslrootcert"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", ""), ("DB_PORT", "many")],
            &["DB_PORT (--db-port <PORT>)"],
        ),
        (
            &["serve"],
            &[("DATABASE_URL", "sqlite:/proc/none/relay.db")],
            &["/proc/none", "(--database-url, DATABASE_URL)"],
        ),
        (&["serve"], &[("RETENTION_DAYS", "0")], &["RETENTION_DAYS"]),
        (
            &["serve"],
            &[("COMFYUI_URL", &ftp)],
            &[
                "'***' for 'COMFYUI_URL (--comfyui-url <URL>)'",
                "http://127.0.0.1:8188",
            ],
        ),
        (
            &["serve"],
            &[("COMFYUI_URL", &query)],
            &["COMFYUI_URL", "a query"],
        ),
        (
            &["serve", "--comfyui-url", &ftp],
            &[],
            &["--comfyui-url", "neither http nor https"],
        ),
        (
            &["serve"],
            &[("COMFYUI_TOKEN", "hunter2\nhunter2")],
            &["COMFYUI_TOKEN"],
        ),
        (
            &["serve"],
            &[("COMFYUI_CA_FILE", "/no/such")],
            &["COMFYUI_CA_FILE", "/no/such"],
        ),
        (
            &["serve"],
            &[("COMFY_API_KEY_FILE", "/no/such")],
            &["COMFY_API_KEY_FILE", "/no/such"],
        ),
        (
            &["serve"],
            &[("COMFY_API_KEY_FILE", "/dev/null")],
            &["COMFY_API_KEY_FILE", "/dev/null is empty"],
        ),
        (
            &["serve", "--comfy-api-key-file", "/dev/null"],
            &[("COMFY_API_KEY", "hunter2")],
            &["COMFY_API_KEY", "--comfy-api-key-file"],
        ),
        (
            &["serve"],
            &[("WORKFLOWS", "/no/such")],
            &[
                "WORKFLOWS (--workflows <DIR>)",
                "/no/such",
                "no such folder",
            ],
        ),
        (
            &["serve", "--workflows", "Cargo.toml"],
            &[],
            &["--workflows <DIR>", "no such folder"],
        ),
        (
            &["serve"],
            &[("AUTH_JWT_SECRET", PASSWORD)],
            &["AUTH_JWT_SECRET", "needs 32", "openssl"],
        ),
        (
            &["serve"],
            &[("AUTH_JWT_SECRET", "")],
            &["AUTH_JWT_SECRET", "has 0 bytes"],
        ),
        (
            &["serve"],
            &[("COMFY_RELAY_AUTH_JWT_SECRET", "")],
            &["(COMFY_RELAY_AUTH_JWT_SECRET)", "has 0 bytes"],
        ),
        (
            &["serve"],
            &[("AUTH_JWKS_FILE", "/no/such")],
            &["AUTH_JWKS_FILE", "/no/such"],
        ),
        (
            &["serve"],
            &[("AUTH_JWKS_FILE", "/no/such"), ("AUTH_JWT_SECRET", SECRET)],
            &[
                "AUTH_JWKS_FILE (--auth-jwks-file",
                "AUTH_JWT_SECRET (--auth-jwt-secret",
            ],
        ),
        (&["serve"], &[("AUTH_AUDIENCE", "")], &["AUTH_AUDIENCE"]),
        (
            &["serve"],
            &[("ALLOWED_ORIGINS", "app.example")],
            &["ALLOWED_ORIGINS", "https://HOST"],
        ),
        (
            &["serve"],
            &[("TRUSTED_PROXIES", "nginx")],
            &["TRUSTED_PROXIES", "10.0.0.0/8"],
        ),
        (
            &["serve"],
            &[("TLS_CERT", "/no/such")],
            &["--tls-key <FILE> (TLS_KEY)"],
        ),
        (
            &["serve"],
            &[("TLS_CERT", "/no/such"), ("TLS_KEY", "/no/such")],
            &["TLS_CERT", "/no/such"],
        ),
    ];
    for case in cases {
        refuses(case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_commands_name_their_settings_too() {
    let relay = format!("http://me:{PASSWORD}@host");
    let make = ["token", "make", "--sub", "ada", "--jobs", "job"];
    let make_with = |more: &[&'static str]| [&make[..], more].concat();
    let secret = &[("AUTH_JWT_SECRET", SECRET)][..];
    let cases: &[Case<'_>] = &[
        (&["demo", "--speed", "0"], &[], &["--speed"]),
        (
            &["demo", "--listen", "0.0.0.0:0"],
            &[],
            &["LISTEN", "AUTH_JWT_SECRET"],
        ),
        (
            &["demo"],
            &[("AUTH_JWT_SECRET", PASSWORD)],
            &["AUTH_JWT_SECRET"],
        ),
        (
            &["replay", "fixtures"],
            &[("REPLAY_LISTEN", "nowhere")],
            &["REPLAY_LISTEN (--listen <HOST:PORT>)"],
        ),
        (&["watch", "a/b"], &[], &["job id"]),
        (
            &["watch", "job"],
            &[("RELAY_URL", "ftp://host")],
            &["RELAY_URL (--relay <URL>)"],
        ),
        (
            &["watch", "job", "--relay", &relay],
            &[],
            &["'***' for '--relay <URL>'", "RELAY_TOKEN"],
        ),
        (
            &["watch", "job"],
            &[("RELAY_CA_FILE", "/no/such")],
            &["RELAY_CA_FILE", "/no/such"],
        ),
        (
            &["watch", "job"],
            &[("RELAY_TOKEN", "hunter2\nhunter2")],
            &["RELAY_TOKEN"],
        ),
        (
            &["submit", "txt2img", "-p", "seed"],
            &[],
            &["NODE.INPUT=VALUE"],
        ),
        (
            &make,
            &[],
            &["--auth-jwt-secret <SECRET> (AUTH_JWT_SECRET)"],
        ),
        (
            &make,
            &[("AUTH_JWT_SECRET", PASSWORD)],
            &["AUTH_JWT_SECRET", "needs 32"],
        ),
        (&make_with(&["--jobs", "a/b"]), secret, &["--jobs <IDS>"]),
        (
            &make_with(&["--scope", "everything"]),
            secret,
            &["--scope <SCOPES>", "monitor"],
        ),
        (
            &make_with(&["--for", "2"]),
            secret,
            &["--for <DURATION>", "2h"],
        ),
        (&["token", "check"], &[], &["RELAY_TOKEN", "standard input"]),
        (&["token"], &[], &["make", "check"]),
        (
            &["migrate"],
            &[("DATABASE_URL", "mysql://db/n")],
            &["DATABASE_URL (--database-url <URL>)"],
        ),
        (
            &["migrate", "--print"],
            &[("DATABASE_URL", "sqlite::memory:")],
            &["--print is for PostgreSQL"],
        ),
    ];
    for case in cases {
        refuses(case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_sqlite_cannot_use_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    std::fs::write(
        folder.path().join("text"),
        "not a database, but longer than a page header".repeat(40),
    )
    .unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let (text, directory, read_only) = (path("text"), path("folder"), "sqlite:/proc/version");
    for (database, reason) in [
        (text.as_str(), "file is not a database"),
        (&directory, "unable to open database file"),
        (read_only, ""),
        ("sqlite:/proc/relay.db", "unable to open database file"),
    ] {
        let words = [
            "cannot use the database",
            database,
            reason,
            "(--database-url, DATABASE_URL)",
        ];
        refuses(&(&["serve"], &[("DATABASE_URL", database)], &words)).await;
    }
    let words = ["(--database-url, COMFY_RELAY_DATABASE_URL)"];
    refuses(&(&["serve"], &[("COMFY_RELAY_DATABASE_URL", &text)], &words)).await;
}

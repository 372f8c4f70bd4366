//! Settings from the environment: the file of the old system, prefixed names, short forms, empty variables.

use std::net::TcpListener;

use serde_json::json;

use crate::support::postgres;
use crate::support::program::Program;
use crate::support::redis_server::RedisServer;
use crate::support::wait::wait_until;

/// The variables of an env file as systemd and Docker read it: everything behind the `=`, comments included.
fn variables(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once('=').unwrap());
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A free port of loopback.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_env_file_of_the_old_system_works_with_its_comments() {
    let cluster = postgres::shared().await;
    let name = cluster.database().await;
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let mut variables = variables("tests/clients/old.env");
    for (variable, value) in &mut variables {
        match variable.as_str() {
            "DB_PORT" => *value = format!("{}  # not the default", cluster.address().port()),
            "REDIS_PORT" => *value = format!("{}  # not the default", redis.port()),
            "DB_NAME" => *value = format!("{name}\t# made for this test"),
            _ => {}
        }
    }
    // The tests name a database of their own otherwise.
    variables.push(("DATABASE_URL".to_owned(), String::new()));
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let program = Program::start(&[], &variables);
    program.ready().await;
    let log = program.log();
    let published_to = format!("publishing states to redis://127.0.0.1:{}", redis.port());
    assert!(log.contains(&published_to), "{log}");
    let stored_in = format!("127.0.0.1:{}/{name}", cluster.address().port());
    assert!(log.contains(&stored_in), "{log}");
    assert!(
        !log.contains("WARN") || !log.contains("DB_PASSWORD"),
        "{log}"
    );
    for component in ["database", "redis"] {
        wait_until(component, async || {
            let health = program.get("/api/anime/health").await;
            health
                .is_some_and(|(_, health)| health["components"][component]["status"] == "connected")
        })
        .await;
    }
    let report = json!({"progress": 10, "status": "processing"});
    let reported = program.post("/api/anime/jobs/old/progress", &report).await;
    assert_eq!(reported.unwrap().0, 202);
    wait_until("the state is kept in Redis", async || {
        redis.command::<bool>(&["EXISTS", "anime_state:old"]).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_redis_that_name_no_server_are_not_used() {
    let set = [
        ("REDIS_PORT", "tcp://10.0.0.7:6379"),
        ("REDIS_PASSWORD", ""),
    ];
    let program = Program::start(&[], &set);
    program.ready().await;
    let log = program.log();
    assert!(log.contains("not used: REDIS_PORT"), "{log}");
    let (_, health) = program.get("/api/anime/health").await.unwrap();
    assert_eq!(
        health["components"]["redis"],
        json!({"status": "not_configured"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefixed_variable_wins_over_the_plain_one() {
    let port = free_port();
    let prefixed = format!("  {port}   # on loopback");
    let variables = [
        ("LISTEN", "nowhere"),
        ("COMFY_RELAY_LISTEN", prefixed.as_str()),
    ];
    let program = Program::start(&[], &variables);
    program.ready().await;
    assert_eq!(program.address().to_string(), format!("127.0.0.1:{port}"));
    // An empty one is not set.
    let program = Program::start(&[], &[("COMFY_RELAY_LISTEN", "")]);
    program.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_platforms_stand_for_our_own() {
    let port = free_port().to_string();
    let unset = [("LISTEN", ""), ("COMFYUI_URL", "")];
    let others = [
        ("PORT", port.as_str()),
        ("COMFYUI_BACKENDS", "http://localhost:1,http://localhost:2"),
    ];
    let program = Program::start(&[], &[unset, others].concat());
    program.ready().await;
    // Still of this machine alone.
    assert_eq!(program.address().to_string(), format!("127.0.0.1:{port}"));
    program.logs("http://localhost:2").await;
    // As Kubernetes sets it for a service of this name.
    let service = [
        ("LISTEN", "127.0.0.1:0"),
        ("COMFY_RELAY_PORT", "tcp://10.0.0.1:8328"),
    ];
    Program::start(&[], &service).ready().await;
    // What is named by our own name wins, and so does a flag.
    let own = [("LISTEN", "127.0.0.1:0"), ("PORT", "nowhere")];
    Program::start(&[], &own).ready().await;
    let wrong = [("LISTEN", ""), ("PORT", "nowhere")];
    Program::start(&["--listen", "127.0.0.1:0"], &wrong)
        .ready()
        .await;
    let refused = Program::run(&["serve"], &wrong).await;
    assert_eq!(refused.status.code(), Some(64));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("PORT (--listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_addresses_are_of_this_machine() {
    let port = free_port();
    for listen in [format!(":{port}"), format!("localhost:{port}")] {
        let variables = [("COMFYUI_URL", "localhost:1"), ("LISTEN", listen.as_str())];
        let program = Program::start(&[], &variables);
        program.ready().await;
        assert_eq!(program.address().to_string(), format!("127.0.0.1:{port}"));
        program.logs("http://localhost:1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_variables_are_not_set() {
    let variables = [
        "WEBSOCKET_PING_INTERVAL",
        "TLS_CERT",
        "TLS_KEY",
        "WORKFLOWS",
        "ALLOWED_ORIGINS",
        "TRUSTED_PROXIES",
        "INSECURE",
        "REMEMBER",
    ]
    .map(|name| (name, "  # later"));
    // What could be part of a secret is not a comment.
    let secrets = [("COMFYUI_TOKEN", ""), ("DB_PASSWORD", "a # b")];
    let program = Program::start(&[], &[&variables[..], &secrets].concat());
    program.ready().await;
    let log = program.log();
    assert!(
        log.contains("DB_PASSWORD holds white space and a #"),
        "{log}"
    );
    assert!(!log.contains("a # b"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_and_wrong_commands_print_what_there_is() {
    let help = Program::run(&[], &[("LOG", "debug")]).await;
    let text = String::from_utf8(help.stdout).unwrap();
    assert_eq!(help.status.code(), Some(0), "{text}");
    for word in ["Usage", "serve", "demo", "watch", "token"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(String::from_utf8(help.stderr).unwrap(), "");
    let wrong = Program::run(&["sevre"], &[]).await;
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("serve"));
}

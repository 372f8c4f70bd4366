//! `doctor` in front of setups that are really broken: it names what is wrong, and says what to do.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::database::TestDatabase;
use crate::support::nginx::{Nginx, free_port};
use crate::support::postgres::{self, Cluster};
use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_server::RedisServer;
use crate::support::tls_proxy::TlsProxy;

/// Part of every password here. No answer may repeat it.
const PASSWORD: &str = "hunter2";

/// What `doctor` answers.
struct Report {
    code: Option<i32>,
    answer: Value,
}

impl Report {
    fn of(output: std::process::Output) -> Self {
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            !text.contains(PASSWORD) && !errors.contains(PASSWORD),
            "{text}{errors}"
        );
        let answer = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"));
        let report = Self {
            code: output.status.code(),
            answer,
        };
        let has_fault = report.answer["status"] == "fault";
        assert_eq!(report.code, Some(i32::from(has_fault)), "{text}");
        report
    }

    /// Expects a finding: its status, how its check begins, and what is in its text and its advice.
    fn says(&self, status: &str, check: &str, words: &[&str]) {
        let findings = self.answer["findings"].as_array().unwrap();
        let text =
            |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let is_it = |finding: &&Value| {
            let all = text(finding, "text") + &text(finding, "advice");
            finding["status"] == status
                && text(finding, "check").starts_with(check)
                && words.iter().all(|word| all.contains(word))
        };
        let found = findings.iter().find(is_it);
        let found = found
            .unwrap_or_else(|| panic!("no {status} of {check} with {words:?}: {:#}", self.answer));
        assert_eq!(found["advice"].is_string(), status != "ok", "{found}");
    }
}

async fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Report {
    let defaults = [
        ("LISTEN", "127.0.0.1:0"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("COMFYUI_URL", "http://127.0.0.1:1"),
    ];
    let variables = [&defaults, variables].concat();
    Report::of(Program::run(&[&["doctor", "--json"], arguments].concat(), &variables).await)
}

/// A ComfyUI that plays a recording, with its URL.
async fn comfyui() -> (Program, String) {
    let program = Program::replay(TXT2IMG, "127.0.0.1:0");
    program.ready().await;
    let url = format!("http://{}", program.address());
    (program, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_can_be_used_has_no_fault() {
    let (_comfyui, url) = comfyui().await;
    let cluster = postgres::shared().await;
    let database = TestDatabase::of(cluster).await;
    let name = database.url();
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept/of/jobs");
    let arguments = ["--keep-outputs", kept.to_str().unwrap()];
    let redis = RedisServer::start().await;
    let redis_url = redis.as_ref().map_or_else(String::new, RedisServer::url);
    let variables = [
        ("COMFYUI_URL", url.as_str()),
        ("DATABASE_URL", name.as_str()),
        ("REDIS_URL", redis_url.as_str()),
    ];
    let report = doctor(&arguments, &variables).await;
    assert_eq!(report.code, Some(0), "{:#}", report.answer);
    report.says("ok", "settings", &[]);
    report.says("ok", "listen 127.0.0.1:0", &["free"]);
    report.says("ok", "comfyui", &["ComfyUI version 0."]);
    report.says("ok", "models of", &["node classes"]);
    report.says("ok", "socket of", &[]);
    report.says("ok", "clock of 127.0.0.1", &[]);
    report.says("ok", "database", &["the tables are made at the start"]);
    report.says("ok", "clock of the database", &[]);
    report.says("ok", "pipeline table jobs", &["no such table"]);
    report.says("ok", "keep outputs", &["can be made"]);
    report.says("ok", "redis", &[]);
    // It has changed nothing.
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    let relay = Program::start(&[], &variables);
    relay.ready().await;
    let listen = relay.address().to_string();
    let report = doctor(&["--listen", &listen], &variables).await;
    report.says("ok", "database", &["up to date"]);
    report.says("warn", "listen", &["a relay serves there already"]);
    // For people, a line for each.
    let output = Program::run(&["doctor"], &variables).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with("ok     database: ")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_limits_that_do_not_fit_are_found() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let report = doctor(&["--listen", &taken], &[]).await;
    report.says(
        "fault",
        "listen",
        &["another program", "ss -ltnp", "--listen"],
    );
    let report = doctor(&["--comfy-listen", "192.0.2.1:80"], &[("INSECURE", "true")]).await;
    report.says(
        "fault",
        "listen 192.0.2.1:80",
        &["no interface", "COMFY_LISTEN"],
    );
    let report = doctor(
        &["--listen", "0.0.0.0:0", "--websocket-ping-interval", "301"],
        &[],
    )
    .await;
    report.says("fault", "settings", &["every client could do everything"]);
    report.says("fault", "settings", &["WEBSOCKET_PING_INTERVAL"]);
    let report = doctor(&["--tls-cert", "nowhere", "--tls-key", "nowhere"], &[]).await;
    report.says("fault", "settings", &["nowhere"]);
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        r#"ulimit -n 512; exec "$@""#,
        "sh",
        env!("CARGO_BIN_EXE_comfy-relay"),
    ]);
    limited.args([
        "doctor",
        "--json",
        "--database-url",
        "sqlite::memory:",
        "--listen",
        "127.0.0.1:0",
    ]);
    let report = Report::of(Program::output(limited).await);
    report.says("warn", "open files", &["at most 512", "LimitNOFILE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_cannot_be_written_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("below");
    let report = doctor(&["--keep-outputs", below.to_str().unwrap()], &[]).await;
    report.says("fault", "keep outputs", &["cannot write", "--keep-outputs"]);
    let url = "sqlite:/proc/none/relay.db";
    let report = doctor(&[], &[("DATABASE_URL", url)]).await;
    report.says(
        "fault",
        "database: folder /proc/none",
        &["cannot write", "DATABASE_URL"],
    );
    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is not a database, however long it is").unwrap();
    let url = format!("sqlite:{}", path.display());
    let report = doctor(&[], &[("DATABASE_URL", &url)]).await;
    report.says("fault", "database", &["not a database"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_a_comfyui_that_can_be_used_are_found() {
    let report = doctor(&[], &[]).await;
    report.says(
        "fault",
        "comfyui 127.0.0.1:1",
        &["onnection refused", "start ComfyUI"],
    );
    let relay = Program::start(&[], &[]);
    relay.ready().await;
    let url = format!("http://{}", relay.address());
    let report = doctor(&[], &[("COMFYUI_URL", &url)]).await;
    report.says("fault", "comfyui", &["not ComfyUI", "COMFYUI_URL"]);

    let (comfyui, url) = comfyui().await;
    let proxy = TlsProxy::before(&url, "Bearer hunter2").await;
    let https = proxy.url("");
    let report = doctor(&[], &[("COMFYUI_URL", &https)]).await;
    report.says(
        "fault",
        "comfyui",
        &["unknown authority", "COMFYUI_CA_FILE"],
    );
    let ca_file = proxy.ca_file();
    let trusting = [
        ("COMFYUI_URL", https.as_str()),
        ("COMFYUI_CA_FILE", ca_file.to_str().unwrap()),
    ];
    let report = doctor(&[], &trusting).await;
    report.says(
        "fault",
        "comfyui",
        &["401", "needs credentials", "COMFYUI_TOKEN"],
    );
    let report = doctor(
        &[],
        &[&trusting[..], &[("COMFYUI_TOKEN", "hunter2")]].concat(),
    )
    .await;
    report.says("ok", "socket of", &[]);

    // As nginx is without the lines for WebSockets.
    let port = free_port();
    let plain = format!(
        "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{}; }} }}",
        comfyui.address()
    );
    let Some(_nginx) = Nginx::start(tempfile::tempdir().unwrap(), port, &plain).await else {
        return;
    };
    let url = format!("http://127.0.0.1:{port}");
    let report = doctor(&[], &[("COMFYUI_URL", &url)]).await;
    report.says("ok", "comfyui", &["ComfyUI version"]);
    report.says("fault", "socket of", &["cannot be opened", "Upgrade"]);
}

/// A server whose clock stands at the beginning of 2020.
async fn slow_clock() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let body = r#"{"system": {"comfyui_version": "0.8.0"}}"#;
            let head =
                "HTTP/1.1 200 OK\r\nDate: Wed, 01 Jan 2020 00:00:00 GMT\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_found() {
    let url = slow_clock().await;
    let report = doctor(&[], &[("COMFYUI_URL", &url)]).await;
    report.says("warn", "clock of", &["behind that of this machine", "NTP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_refuse_the_relay_are_found() {
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/jobs");
    let report = doctor(&[], &[("DATABASE_URL", &url)]).await;
    report.says(
        "fault",
        "database",
        &["cannot reach", "onnection refused", "DATABASE_URL"],
    );
    let cluster = Cluster::with("", "host all all 127.0.0.1/32 scram-sha-256\n", Vec::new()).await;
    let name = cluster.database().await;
    let mut url = cluster.url(postgres::USER, &name);
    url.set_password(Some(PASSWORD)).unwrap();
    let report = doctor(&[], &[("DATABASE_URL", url.as_str())]).await;
    report.says("fault", "database", &["password authentication failed"]);
    let port = cluster.address().port().to_string();
    let parts = [
        ("DATABASE_URL", ""),
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", &port),
        ("DB_NAME", &name),
        ("DB_USER", "nobody"),
        ("DB_PASSWORD", PASSWORD),
    ];
    let report = doctor(&[], &parts).await;
    report.says("fault", "database", &["nobody", "--db-host, DB_HOST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_a_role_lacks_are_found() {
    let cluster = postgres::shared().await;
    let name = cluster.database().await;
    let role = format!("doctor_{name}");
    cluster.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = cluster.url(&role, &name).to_string();
    let report = doctor(&[], &[("DATABASE_URL", &url)]).await;
    report.says(
        "fault",
        "database",
        &["permission denied", "migrate --print"],
    );
    let admin = TestDatabase::at(cluster.url("postgres", &name).to_string());
    let sql = Program::run(&["migrate", "--print"], &[("DATABASE_URL", &url)]).await;
    admin.execute(&String::from_utf8(sql.stdout).unwrap()).await;
    admin
        .execute("CREATE TABLE shots (id text PRIMARY KEY, status text)")
        .await;
    let table = [("DATABASE_URL", url.as_str()), ("PIPELINE_TABLE", "shots")];
    let report = doctor(&[], &table).await;
    report.says("ok", "database", &["up to date"]);
    report.says(
        "warn",
        "pipeline table shots",
        &["may not read and update", "GRANT SELECT, UPDATE"],
    );
    admin
        .execute(&format!("GRANT SELECT, UPDATE ON shots TO {role}"))
        .await;
    let report = doctor(&[], &table).await;
    report.says("ok", "pipeline table shots", &["mirrored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_master_of_a_redis_cluster_is_checked() {
    let Some(mut cluster) = RedisCluster::start().await else {
        return;
    };
    let url = cluster.url();
    let variables = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_SHARDED_CHANNELS", "on"),
    ];
    doctor(&[], &variables).await.says("ok", "redis", &[]);
    let node = cluster.nodes[0].url();
    let report = doctor(&[], &[("REDIS_URL", &node)]).await;
    report.says("fault", "redis", &["redis+cluster://"]);
    cluster.nodes[2].kill();
    let report = doctor(&[], &variables).await;
    report.says("fault", "redis", &["REDIS_URL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_be_used_is_found() {
    let report = doctor(&[], &[("REDIS_URL", "redis://:hunter2@127.0.0.1:1")]).await;
    report.says("fault", "redis", &["onnection refused", "REDIS_URL"]);
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    redis
        .command::<String>(&["CONFIG", "SET", "requirepass", "correct"])
        .await;
    let url = format!("redis://:hunter2@127.0.0.1:{}", redis.port());
    let report = doctor(&[], &[("REDIS_URL", &url)]).await;
    report.says("fault", "redis", &["REDIS_PASSWORD"]);
}

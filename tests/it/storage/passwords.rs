//! Passwords of PostgreSQL with any characters, from anywhere, and none of them in a log.

use std::os::unix::fs::PermissionsExt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::postgres::{Cluster, USER};
use crate::support::program::Program;

/// Only the superuser needs no password.
const RULES: &str = "host all all 127.0.0.1/32 scram-sha-256\n";

/// Part of every password here, which no log may contain.
const PART: &str = "hunter2";

const PASSWORDS: [&str; 6] = [
    "hunter2%41%zz%",
    "hunter2@:/?#[]&=+",
    " hunter2 'with \"quotes\" \\ and spaces ",
    "hunter2-€-ü-日本",
    "hunter2",
    "a:b@hunter2",
];

/// A server, and a database in it whose owner has a password.
async fn server() -> (Cluster, String) {
    let cluster = Cluster::with("", RULES, Vec::new()).await;
    let name = cluster.database().await;
    (cluster, name)
}

async fn set_password(cluster: &Cluster, password: &str) {
    let quoted = password.replace('\'', "''");
    let standard = "SET standard_conforming_strings = on";
    cluster
        .execute(&format!(
            "{standard}; ALTER ROLE {USER} PASSWORD '{quoted}'"
        ))
        .await;
}

/// The relay serves with its database, and logs no password, however much it logs.
async fn accepts(variables: &[(&str, &str)]) {
    let variables = [&[("LOG", "trace")], variables].concat();
    let program = Program::start(&[], &variables);
    program.ready().await;
    let report = serde_json::json!({"progress": 1, "status": "processing"});
    let reported = program.post("/api/anime/jobs/j/progress", &report).await;
    assert_eq!(reported.unwrap().0, 202);
    let (_, health) = program.get("/api/anime/health").await.unwrap();
    assert_eq!(health["components"]["database"]["status"], "connected");
    let log = program.kill().await + &health.to_string();
    assert!(!log.contains(PART), "{log}");
}

async fn refuses(variables: &[(&str, &str)], reason: &str) {
    let variables = [&[("LOG", "trace")], variables].concat();
    let mut program = Program::start(&[], &variables);
    assert_eq!(program.exit_status().await.code(), Some(64));
    let log = program.log();
    assert!(log.contains(reason), "{log}");
    assert!(!log.contains(PART), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_password_works_in_db_password_and_encoded_in_a_url() {
    let (cluster, name) = server().await;
    let port = cluster.address().port().to_string();
    for password in PASSWORDS {
        set_password(&cluster, password).await;
        accepts(&[
            ("DATABASE_URL", ""),
            ("DB_HOST", "127.0.0.1"),
            ("DB_PORT", &port),
            ("DB_NAME", &name),
            ("DB_USER", USER),
            ("DB_PASSWORD", password),
        ])
        .await;
        let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC);
        let url = format!("postgres://{USER}:{encoded}@127.0.0.1:{port}/{name}");
        accepts(&[("DATABASE_URL", &url)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_behind_the_question_mark_works_and_is_not_logged() {
    let (cluster, name) = server().await;
    set_password(&cluster, "hunter2&").await;
    let port = cluster.address().port();
    let url = |password: &str| {
        format!("postgres://127.0.0.1:{port}/{name}?user={USER}&password={password}")
    };
    accepts(&[("DATABASE_URL", &url("hunter2%26"))]).await;
    refuses(
        &[("DATABASE_URL", &url("hunter2-wrong"))],
        "password authentication failed",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_come_from_pgpassword_and_the_password_file() {
    let (cluster, name) = server().await;
    set_password(&cluster, "hunter2:\\").await;
    let port = cluster.address().port();
    let url = format!("postgres://{USER}@127.0.0.1:{port}/{name}");
    accepts(&[("DATABASE_URL", &url), ("PGPASSWORD", "hunter2:\\")]).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    let line = format!("# a comment\n*:1:*:*:wrong\n127.0.0.1:{port}:*:{USER}:hunter2\\:\\\\\n");
    std::fs::write(&file, line).unwrap();
    let readable = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    readable(0o600);
    let file = file.to_str().unwrap();
    accepts(&[("DATABASE_URL", &url), ("PGPASSFILE", file)]).await;
    accepts(&[
        ("DATABASE_URL", &url),
        ("HOME", home.path().to_str().unwrap()),
    ])
    .await;
    accepts(&[("DATABASE_URL", &format!("{url}?passfile={file}"))]).await;
    readable(0o644);
    let variables = [("DATABASE_URL", url.as_str()), ("PGPASSFILE", file)];
    refuses(&variables, "others may read it (chmod 600)").await;
}

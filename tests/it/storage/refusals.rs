//! A PostgreSQL server that refuses the relay for a reason that waiting does not heal.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::support::postgres::{self, Cluster};
use crate::support::program::Program;
use crate::support::wait::wait_until;

/// Lets the superuser in, and asks everybody else for a password.
const ASK_FOR_PASSWORDS: &str = "\
DO $$ BEGIN EXECUTE format('COPY (VALUES (''host all postgres 127.0.0.1/32 trust''), \
(''host all all 127.0.0.1/32 scram-sha-256'')) TO %L', current_setting('hba_file')); END $$; \
SELECT pg_reload_conf();";

async fn refuses(variables: &[(&str, &str)], reason: &str, setting: &str) {
    let mut program = Program::start(&[], variables);
    let code = program.exit_status().await.code();
    let text = program.log();
    assert_eq!(code, Some(64), "{variables:?}: {text}");
    for word in [reason, setting] {
        assert!(text.contains(word), "{word:?}: {variables:?}: {text}");
    }
    assert!(!text.contains("wrong-password"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_role_or_database_ends_the_start() {
    let cluster = postgres::shared().await;
    let database = cluster.database().await;
    let url = |role: &str, database: &str| cluster.url(role, database).to_string();
    let no_role = url("nobody-knows-it", &database);
    let setting = "(--database-url, DATABASE_URL)";
    refuses(
        &[("DATABASE_URL", &no_role)],
        "role \"nobody-knows-it\" does not exist",
        setting,
    )
    .await;
    let no_database = url(postgres::USER, "no-such-database");
    let reason = "database \"no-such-database\" does not exist";
    refuses(&[("DATABASE_URL", &no_database)], reason, setting).await;
    let port = cluster.address().port().to_string();
    let parts = [
        ("DATABASE_URL", ""),
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", &port),
        ("DB_NAME", "no-such-database"),
        ("COMFY_RELAY_DB_USER", postgres::USER),
    ];
    refuses(&parts, reason, "COMFY_RELAY_DB_USER").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_ends_the_start() {
    let cluster = Cluster::own().await;
    let database = cluster.database().await;
    let role = postgres::USER;
    cluster
        .execute(&format!("ALTER ROLE {role} PASSWORD 'right'"))
        .await;
    cluster.execute(ASK_FOR_PASSWORDS).await;
    let mut url = cluster.url(role, &database);
    wait_until("the server asks for passwords", async || {
        AsyncPgConnection::establish(url.as_str()).await.is_err()
    })
    .await;
    let setting = "(--database-url, DATABASE_URL)";
    refuses(
        &[("DATABASE_URL", url.as_str())],
        "password missing",
        setting,
    )
    .await;
    url.set_password(Some("wrong-password")).unwrap();
    let reason = format!("password authentication failed for user \"{role}\"");
    refuses(&[("DATABASE_URL", url.as_str())], &reason, setting).await;
    url.set_password(Some("right")).unwrap();
    let program = Program::start(&[], &[("DATABASE_URL", url.as_str())]);
    program.ready().await;
    wait_until("the relay uses the database", async || {
        let health = program.get("/api/anime/health").await;
        health.is_some_and(|(_, health)| health["components"]["database"]["status"] == "connected")
    })
    .await;
}

/// A pool itself knows only that a connection took too long.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached_is_logged_with_the_cause() {
    let variables = [("DATABASE_URL", "postgres://relay:hunter2@127.0.0.1:1/anime")];
    let program = Program::start(&[], &variables);
    program.logs("the database fails").await;
    let log = program.log();
    let failed = log.lines().find(|line| line.contains("the database fails"));
    let failed = failed.unwrap();
    assert!(failed.contains("Connection refused"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

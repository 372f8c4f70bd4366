//! A role that may not create tables: it runs where they are up to date, and is told what to run where they are not.

use comfy_relay::config::{SchemaName, StoreConfig};
use comfy_relay::store::Store;

use crate::support::database::TestDatabase;
use crate::support::postgres::{self, Cluster};
use crate::support::program::Program;

/// A database without tables, as its superuser sees it, and its URL for a role that may only use tables.
async fn database_of_a_user(role: &str) -> (&'static Cluster, TestDatabase, String) {
    let cluster = postgres::shared().await;
    let name = cluster.database().await;
    let role = format!("{role}_{name}");
    cluster.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    let admin = TestDatabase::at(cluster.url("postgres", &name).to_string());
    (cluster, admin, cluster.url(&role, &name).to_string())
}

/// The output of a command that succeeds.
async fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Program::run(arguments, variables).await;
    let (text, errors) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(text).unwrap()
}

async fn writes_a_job(url: &str) {
    let program = Program::start(&[], &[("DATABASE_URL", url)]);
    program.ready().await;
    let report = serde_json::json!({"progress": 1, "status": "processing"});
    let reported = program.post("/api/anime/jobs/j/progress", &report).await;
    assert_eq!(reported.unwrap().0, 202);
    let store = Store::open(&StoreConfig {
        database: url.parse().unwrap(),
        ..StoreConfig::default()
    });
    let is_written = async || {
        let jobs = store.jobs(&Default::default(), 10).await;
        jobs.is_ok_and(|page| page.jobs.len() == 1)
    };
    crate::support::wait::wait_until("the job is written", is_written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_tables_is_told_the_sql_and_then_runs() {
    let (_, admin, url) = database_of_a_user("plain").await;
    let variables = [("DATABASE_URL", url.as_str())];
    for command in [&["serve"][..], &["migrate"]] {
        let mut program = Program::start_command(command, &variables);
        assert_eq!(program.exit_status().await.code(), Some(64));
        let log = program.log();
        for word in ["permission denied", "comfy-relay migrate --print"] {
            assert!(log.contains(word), "{log}");
        }
    }
    let sql = printed(&["migrate", "--print"], &variables).await;
    admin.execute(&sql).await;
    let sql = printed(&["migrate", "--print"], &variables).await;
    assert!(sql.starts_with("-- Nothing to do"), "{sql}");
    writes_a_job(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_applies_what_another_role_then_uses() {
    let (_, admin, url) = database_of_a_user("user").await;
    let done = printed(&["migrate"], &[("DATABASE_URL", &admin.url())]).await;
    assert!(done.contains("up to date"), "{done}");
    // The SQL holds the rights, too; nothing of it is pending any more.
    let role = url.split(['/', '@']).nth(2).unwrap();
    let grants = Store::schema_sql(&SchemaName::default(), role);
    let grants = grants.lines().filter(|line| line.contains("GRANT"));
    for grant in grants {
        admin.execute(grant).await;
    }
    writes_a_job(&url).await;
    let again = printed(&["migrate"], &[("DATABASE_URL", &url)]).await;
    assert!(again.contains("up to date"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_of_all_migrations_is_printed_without_a_database() {
    let sql = printed(&["migrate", "--print"], &[]).await;
    let (_, admin, _) = database_of_a_user("no_one").await;
    admin.execute(&sql).await;
    let pending = printed(&["migrate", "--print"], &[("DATABASE_URL", &admin.url())]).await;
    assert!(pending.starts_with("-- Nothing to do"), "{pending}");
}

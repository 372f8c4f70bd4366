//! The addresses of PostgreSQL: Unix sockets, IPv6, and several hosts.

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, USER};
use crate::support::program::Program;
use crate::support::wait::wait_until;

const RULES: &str =
    "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n";

/// Starts the relay, and waits until it uses the database.
async fn uses_the_database(variables: &[(&str, &str)]) -> Program {
    let program = Program::start(&[], variables);
    program.ready().await;
    wait_until("the relay uses the database", async || {
        let health = program.get("/api/anime/health").await;
        health.is_some_and(|(_, health)| health["components"]["database"]["status"] == "connected")
    })
    .await;
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_the_host_of_a_url_and_of_db_host() {
    let cluster = Cluster::with("", RULES, Vec::new()).await;
    let name = cluster.database().await;
    let (folder, port) = (
        cluster.socket().display().to_string(),
        cluster.address().port(),
    );
    let encoded = folder.replace('/', "%2F");
    for url in [
        format!("postgres://{USER}@:{port}/{name}?host={folder}"),
        format!("postgres://{USER}@{encoded}:{port}/{name}?sslmode=require"),
        format!("postgresql:///{name}?host={folder}&port={port}&user={USER}"),
    ] {
        uses_the_database(&[("DATABASE_URL", &url)]).await;
    }
    let port = port.to_string();
    uses_the_database(&[
        ("DATABASE_URL", ""),
        ("DB_HOST", &folder),
        ("DB_PORT", &port),
        ("DB_NAME", &name),
        ("DB_USER", USER),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_addresses_are_hosts() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no ::1");
        return;
    }
    let cluster = Cluster::with("listen_addresses = '127.0.0.1,::1'\n", RULES, Vec::new()).await;
    let name = cluster.database().await;
    let port = cluster.address().port().to_string();
    let url = format!("postgres://{USER}@[::1]:{port}/{name}");
    let program = uses_the_database(&[("DATABASE_URL", &url)]).await;
    let log = program.log();
    assert!(log.contains(&format!("@[::1]:{port}/{name}")), "{log}");
    for host in ["::1", "[::1]"] {
        uses_the_database(&[
            ("DATABASE_URL", ""),
            ("DB_HOST", host),
            ("DB_PORT", &port),
            ("DB_NAME", &name),
            ("DB_USER", USER),
        ])
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_the_one_that_accepts_writes_is_used() {
    let standby = Cluster::with("default_transaction_read_only = on\n", RULES, Vec::new()).await;
    let primary = Cluster::with("", RULES, Vec::new()).await;
    let name = primary.database().await;
    // A standby has the same roles and databases.
    let [standby, primary_port] = [&standby, &primary].map(|cluster| cluster.address().port());
    let admin = TestDatabase::at(format!("postgres://postgres@127.0.0.1:{standby}/postgres"));
    for statement in [
        "CREATE ROLE relay LOGIN".to_owned(),
        format!("CREATE DATABASE {name}"),
    ] {
        let writable = "?options=-c%20default_transaction_read_only%3Doff";
        let admin = TestDatabase::at(admin.url() + writable);
        admin.execute(&statement).await;
    }
    let db = TestDatabase::at(primary.url(USER, &name).to_string());
    let dead = "127.0.0.1:1";
    let hosts = format!("{dead},127.0.0.1:{standby},127.0.0.1:{primary_port}");
    for parameters in ["", "?target_session_attrs=read-write"] {
        let url = format!("postgres://{USER}@{hosts}/{name}{parameters}");
        let program = uses_the_database(&[("DATABASE_URL", &url)]).await;
        let sessions = "SELECT count(*) > 0 AS v FROM pg_stat_activity \
                        WHERE application_name = 'comfy-relay'";
        assert_eq!(db.value(sessions).await, "true");
        drop(program);
    }
}

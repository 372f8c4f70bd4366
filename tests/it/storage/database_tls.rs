//! Encrypted connections to PostgreSQL: each `sslmode` accepts and refuses what libpq does.

use comfy_relay::config::{Database, StoreConfig};
use comfy_relay::store::{Refusal, Store};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::support::database::TestDatabase;
use crate::support::postgres::{self, Cluster, USER};
use crate::support::program::Program;

/// The host for which the server has its certificate.
const HOST: &str = "db.example";

const SETTINGS: &str = "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n";

/// Who may connect how.
const RULES: &str =
    "hostssl all relay 127.0.0.1/32 scram-sha-256\nhostnossl all plain 127.0.0.1/32 trust\n";

/// A server with a certificate for [`HOST`], and files of certificate authorities.
struct Encrypted {
    cluster: Cluster,
    name: String,
    folder: TempDir,
}

/// A certificate for [`HOST`] by the authority, and its key.
fn signed_by(authority: &Issuer<'_, KeyPair>) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([HOST.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

/// A certificate that can sign others, and also stand for [`HOST`] itself.
fn authority(name: &str) -> (Certificate, CertificateParams, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap(), params, key)
}

impl Encrypted {
    async fn start() -> Self {
        let (root, params, key) = authority("right");
        let (certificate, key) = signed_by(&Issuer::new(params, key));
        Self::with(&certificate, &key, &root).await
    }

    async fn with(certificate: &Certificate, key: &KeyPair, root: &Certificate) -> Self {
        let files = vec![
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ];
        let cluster = Cluster::with(SETTINGS, RULES, files).await;
        let name = cluster.database().await;
        cluster
            .execute(&format!(
                "ALTER ROLE {USER} PASSWORD 'right'; CREATE ROLE plain LOGIN; \
                 GRANT CREATE ON DATABASE {name} TO plain"
            ))
            .await;
        let admin = TestDatabase::at(cluster.url("postgres", &name).to_string());
        admin
            .execute("GRANT CREATE ON SCHEMA public TO plain")
            .await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
        let (other, ..) = authority("other");
        std::fs::write(folder.path().join("other.pem"), other.pem()).unwrap();
        Self {
            cluster,
            name,
            folder,
        }
    }

    /// A URL; `CA` in the parameters stands for the file of the right authority, `OTHER` for that of another.
    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let parameters = parameters
            .replace("OTHER", &file("other.pem"))
            .replace("CA", &file("ca.pem"));
        let port = self.cluster.address().port();
        format!(
            "postgres://{user}:right@{host}:{port}/{}?hostaddr=127.0.0.1&{parameters}",
            self.name
        )
    }

    /// Whether a connection is made and encrypted, or why it is refused.
    async fn connect(&self, user: &str, host: &str, parameters: &str) -> Result<bool, String> {
        let config = StoreConfig {
            database: self.url(user, host, parameters).parse().unwrap(),
            ..StoreConfig::default()
        };
        if let Some(refusal) = Refusal::find(&config).await {
            return Err(refusal.to_string());
        }
        let store = Store::open(&config);
        // Connects, whatever it answers.
        let _ = store.migrate().await;
        let admin = TestDatabase::at(self.cluster.url("postgres", &self.name).to_string());
        let query = "SELECT bool_or(ssl) AS v FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'comfy-relay'";
        Ok(admin.value(query).await == "true")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_accepts_and_refuses_as_libpq_does() {
    let server = Encrypted::start().await;
    for (host, parameters, expected) in [
        (HOST, "sslmode=disable", Err("no encryption")),
        (HOST, "", Ok(true)),
        ("other.example", "sslmode=prefer", Ok(true)),
        ("other.example", "sslmode=require", Ok(true)),
        ("other.example", "sslmode=require&sslrootcert=CA", Ok(true)),
        (
            HOST,
            "sslmode=require&sslrootcert=OTHER",
            Err("unknown authority"),
        ),
        (
            "other.example",
            "sslmode=verify-ca&sslrootcert=CA",
            Ok(true),
        ),
        (
            HOST,
            "sslmode=verify-ca&sslrootcert=OTHER",
            Err("unknown authority"),
        ),
        (HOST, "sslmode=verify-full&sslrootcert=CA", Ok(true)),
        (
            "other.example",
            "sslmode=verify-full&sslrootcert=CA",
            Err("not valid for name \"other.example\""),
        ),
        (
            HOST,
            "sslmode=verify-full&sslrootcert=OTHER",
            Err("unknown authority"),
        ),
        (
            HOST,
            "sslmode=verify-full&sslrootcert=/no/such",
            Err("/no/such"),
        ),
        (HOST, "sslmode=require&channel_binding=require", Ok(true)),
        (HOST, "sslmode=require&channel_binding=disable", Ok(true)),
    ] {
        let found = server.connect(USER, host, parameters).await;
        match (&found, expected) {
            (Ok(is_encrypted), Ok(expected)) => assert_eq!(*is_encrypted, expected, "{parameters}"),
            (Err(reason), Err(expected)) => {
                assert!(reason.contains(expected), "{host} {parameters}: {reason}");
            }
            _ => panic!("{host} {parameters}: {found:?}, not {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_falls_back_where_the_server_refuses_encryption() {
    let server = Encrypted::start().await;
    assert_eq!(server.connect("plain", HOST, "").await, Ok(false));
    let refused = server.connect("plain", HOST, "sslmode=require").await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_encryption_is_refused_where_it_is_required() {
    let cluster = postgres::shared().await;
    let name = cluster.database().await;
    let url = cluster.url(USER, &name);
    let reason = async |parameters: &str| {
        let database: Database = format!("{url}?{parameters}").parse().unwrap();
        let refusal = Refusal::of_connection(&database).await;
        refusal.map(|refusal| refusal.to_string())
    };
    assert_eq!(reason("sslmode=prefer").await, None);
    let refused = reason("sslmode=require").await.unwrap();
    assert!(refused.contains("does not support TLS"), "{refused}");
    let refused = reason("sslmode=disable&channel_binding=require")
        .await
        .unwrap();
    assert!(refused.contains("channel binding"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_can_be_named_as_its_own_authority() {
    let (root, _, key) = authority("server");
    let server = Encrypted::with(&root, &key, &root).await;
    for mode in ["verify-ca", "verify-full"] {
        let parameters = format!("sslmode={mode}&sslrootcert=CA");
        assert_eq!(server.connect(USER, HOST, &parameters).await, Ok(true));
        let parameters = format!("sslmode={mode}&sslrootcert=OTHER");
        assert!(server.connect(USER, HOST, &parameters).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_encrypt_a_connection_and_end_the_start() {
    let server = Encrypted::start().await;
    let port = server.cluster.address().port().to_string();
    let file = |name: &str| server.folder.path().join(name).display().to_string();
    let (right, other) = (file("ca.pem"), file("other.pem"));
    let variables = |roots: &'static str| {
        [
            ("DATABASE_URL", ""),
            ("DB_HOST", "127.0.0.1"),
            ("DB_PORT", &port),
            ("DB_NAME", &server.name),
            ("DB_USER", USER),
            ("DB_PASSWORD", "right"),
            ("DB_SSLMODE", "verify-ca"),
            (
                "DB_SSLROOTCERT",
                if roots == "right" { &right } else { &other },
            ),
        ]
    };
    let program = Program::start(&[], &variables("right"));
    program.ready().await;
    let mut refused = Program::start(&[], &variables("other"));
    assert_eq!(refused.exit_status().await.code(), Some(64));
    let log = refused.log();
    assert!(
        log.contains("unknown authority") && log.contains("DB_SSLROOTCERT"),
        "{log}"
    );
}

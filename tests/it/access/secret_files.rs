//! Secrets in files, as Docker and Kubernetes hand them out: `NAME_FILE` in place of `NAME`.

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::support::program::Program;
use crate::support::tokens::{SECRET, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_read_from_the_file_that_its_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let path = file.to_str().unwrap();
    for name in ["AUTH_JWT_SECRET_FILE", "COMFY_RELAY_AUTH_JWT_SECRET_FILE"] {
        // An empty variable beside it, as compose files pass one on, is not a second secret.
        let program = Program::start(&[], &[(name, path), ("AUTH_JWT_SECRET", "")]);
        program.ready().await;
        let jobs = format!("http://{}/api/anime/jobs", program.address());
        let client = Client::builder().no_proxy().build().unwrap();
        let anonymous = client.get(&jobs).send().await.unwrap();
        assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED, "{name}");
        let known = client.get(&jobs).bearer_auth(token(&json!({})));
        assert_eq!(known.send().await.unwrap().status(), StatusCode::OK);
    }
    // The commands of the terminal read theirs so, too.
    let made = [("AUTH_JWT_SECRET_FILE", path)];
    let made = Program::run(&["token", "make", "--sub", "me", "--jobs", "*"], &made).await;
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, &made.stdout).unwrap();
    let variables = [
        ("RELAY_TOKEN_FILE", token_file.to_str().unwrap()),
        ("AUTH_JWT_SECRET_FILE", path),
    ];
    let checked = Program::run(&["token", "check"], &variables).await;
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("signature  good"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_database_can_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, database) = (folder.path().join("url"), folder.path().join("relay.db"));
    std::fs::write(&file, format!("sqlite:{}\n", database.display())).unwrap();
    let variables = [
        ("DATABASE_URL", ""),
        ("DATABASE_URL_FILE", file.to_str().unwrap()),
    ];
    let program = Program::start(&[], &variables);
    program.ready().await;
    assert!(database.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_holds_no_secret_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, secret) = (folder.path().join("empty"), folder.path().join("secret"));
    std::fs::write(&empty, "\n").unwrap();
    std::fs::write(&secret, SECRET).unwrap();
    let missing = folder.path().join("missing");
    let [empty, secret, missing] = [&empty, &secret, &missing].map(|it| it.to_str().unwrap());
    let cases = [
        (
            "AUTH_JWT_SECRET_FILE",
            missing,
            None,
            "cannot read the file",
        ),
        ("LINK_SECRET_FILE", empty, None, "the file is empty"),
        (
            "DB_PASSWORD_FILE",
            secret,
            Some("DB_PASSWORD"),
            "given twice",
        ),
        ("AUTH_JWT_SECRET_FILE", "", None, "cannot read the file"),
    ];
    for (name, path, other, reason) in cases {
        let mut variables = vec![(name, path)];
        variables.extend(other.map(|other| (other, "p4ss")));
        let refused = Program::run(&["serve"], &variables).await;
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{name}: {text}");
        assert!(
            text.contains(name) && text.contains(reason),
            "{name}: {text}"
        );
        assert!(!text.contains(SECRET) && !text.contains("p4ss"), "{text}");
    }
}

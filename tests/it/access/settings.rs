//! Settings of access that the relay refuses to start with.

use crate::support::program::Program;
use crate::support::tokens::SECRET;

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_the_relay_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let variables = [("INSECURE", "false")];
        let mut program = Program::start(&["--listen", address], &variables);
        assert_eq!(program.exit_status().await.code(), Some(64), "{address}");
        let log = program.log();
        for word in [address, "AUTH_JWT_SECRET", "AUTH_JWKS_FILE", "--insecure"] {
            assert!(log.contains(word), "{log}");
        }
        assert!(!log.contains("serving"), "{log}");
    }
    // No interface has this address: the program fails only when it listens.
    for variables in [
        ("INSECURE", "true"),
        ("INSECURE", "1"),
        ("AUTH_JWT_SECRET", SECRET),
    ] {
        let mut program = Program::start(&["--listen", "192.0.2.1:0"], &[variables]);
        assert_eq!(
            program.exit_status().await.code(),
            Some(1),
            "{}",
            program.log()
        );
        assert!(program.log().contains("cannot listen"), "{}", program.log());
        assert!(!program.log().contains(SECRET));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_wrong_access_setting() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (absent, garbled, unusable) = (path("absent"), path("garbled"), path("unusable"));
    std::fs::write(&garbled, "{").unwrap();
    let secret = r#"{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}"#;
    std::fs::write(&unusable, secret).unwrap();
    let key = r#"{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let twice = path("twice");
    std::fs::write(&twice, format!(r#"{{"keys": [{key}, {key}]}}"#)).unwrap();
    for (arguments, variables, expected) in [
        (&[][..], &[("AUTH_JWT_SECRET", "short")][..], "needs 32"),
        (&[], &[("AUTH_JWT_SECRET", "")], "needs 32"),
        (&[], &[("AUTH_JWKS_FILE", &absent)], "AUTH_JWKS_FILE"),
        (
            &[],
            &[("AUTH_JWKS_FILE", &garbled)],
            "not a JSON Web Key Set",
        ),
        (&[], &[("AUTH_JWKS_FILE", &unusable)], "no key for RS256"),
        (&[], &[("AUTH_JWKS_FILE", &twice)], "several keys"),
        (
            &[],
            &[("AUTH_JWT_SECRET", SECRET), ("LINK_SECRET", "short")],
            "(LINK_SECRET)",
        ),
        (
            &[],
            &[("AUTH_JWKS_FILE", &twice), ("AUTH_JWT_SECRET", SECRET)],
            "cannot be used with",
        ),
        (&["--auth-audience", ""], &[], "--auth-audience"),
        (&["--tls-cert", &absent], &[], "--tls-key"),
        (
            &["--tls-cert", &absent, "--tls-key", &absent],
            &[],
            "TLS_CERT",
        ),
        (
            &["--tls-cert", &garbled, "--tls-key", &garbled],
            &[],
            "TLS_CERT",
        ),
        (&["--allowed-origins", "app.example"], &[], "https://HOST"),
        (&["--trusted-proxies", "nginx"], &[], "10.0.0.0/8"),
        (&["--max-connections", "many"], &[], "--max-connections"),
    ] {
        let mut program = Program::start(arguments, variables);
        let code = program.exit_status().await.code();
        let log = program.log();
        assert_eq!(code, Some(64), "{arguments:?} {variables:?}: {log}");
        assert!(log.contains(expected), "{arguments:?} {variables:?}: {log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

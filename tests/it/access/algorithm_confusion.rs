//! Tokens with a wrong or dangerous signature algorithm.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::signer::{Signer, guarded_by, write_keys};
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{SECRET, everything, guarded};

async fn status(relay: &TestRelay, token: &str) -> u16 {
    let request = relay.request_as(token, Method::GET, "/api/anime/jobs/unknown/preview");
    response(request).await.0
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Tokens that claim to need no signature.
fn unsigned(kid: Option<&str>) -> Vec<String> {
    let algorithms = ["none", "None", "NONE", "nOnE", ""];
    let tokens = algorithms.into_iter().flat_map(|alg| {
        let mut header = json!({"alg": alg, "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let bare = format!("{}.{}", part(&header), part(&everything()));
        ["", ".", ".x", ".AAAA"].map(|end| format!("{bare}{end}"))
    });
    tokens.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_without_a_signature_are_refused() {
    let relay = TestRelay::without_backend(guarded()).await;
    for token in unsigned(None) {
        assert_eq!(status(&relay, &token).await, 401, "{token}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write_keys(&file, &[Signer::ec("e").jwk()]);
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    for token in unsigned(Some("e")).into_iter().chain(unsigned(None)) {
        assert_eq!(status(&relay, &token).await, 401, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_is_not_a_shared_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let signers = [Signer::rsa("r"), Signer::ec("e"), Signer::ed("d")];
    write_keys(&file, &signers.each_ref().map(Signer::jwk));
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    for signer in &signers {
        let jwk = serde_json::to_value(signer.jwk()).unwrap();
        let raw = |name: &str| {
            let text = jwk[name].as_str()?;
            BASE64_URL_SAFE_NO_PAD.decode(text).ok()
        };
        let mut secrets = vec![
            signer.public_pem.clone().into_bytes(),
            signer.public_pem.trim().as_bytes().to_vec(),
            jwk.to_string().into_bytes(),
            std::fs::read(&file).unwrap(),
            Vec::new(),
        ];
        secrets.extend(["n", "x", "y"].into_iter().filter_map(raw));
        for secret in secrets {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let header = Header {
                    alg: algorithm,
                    ..signer.header()
                };
                let key = EncodingKey::from_secret(&secret);
                let token = encode(&header, &everything(), &key).unwrap();
                assert_eq!(status(&relay, &token).await, 401, "{header:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_decides_the_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let (rsa, ec, ed) = (Signer::rsa("r"), Signer::ec("e"), Signer::ed("d"));
    write_keys(&file, &[rsa.jwk(), ec.jwk(), ed.jwk()]);
    let by_file = TestRelay::without_backend(guarded_by(&file)).await;
    for signer in [&rsa, &ec, &ed] {
        for named in [&rsa, &ec, &ed] {
            let header = Header {
                kid: Some(named.id.to_owned()),
                ..signer.header()
            };
            let token = encode(&header, &everything(), &signer.key).unwrap();
            let expected = if signer.id == named.id { 404 } else { 401 };
            assert_eq!(status(&by_file, &token).await, expected, "{header:?}");
        }
    }
    // The right key, but not the algorithm that it is for.
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let header = Header {
            alg: algorithm,
            ..rsa.header()
        };
        let token = encode(&header, &everything(), &rsa.key).unwrap();
        assert_eq!(status(&by_file, &token).await, 401, "{algorithm:?}");
    }
    let by_secret = TestRelay::without_backend(guarded()).await;
    for signer in [&rsa, &ec, &ed] {
        assert_eq!(status(&by_secret, &signer.sign(&everything())).await, 401);
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = encode(&Header::new(algorithm), &everything(), &key).unwrap();
        assert_eq!(status(&by_secret, &token).await, 401, "{algorithm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_inside_a_token_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write_keys(&file, &[Signer::ec("e").jwk()]);
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    let thief = Signer::ec("thief");
    let own = Header {
        jwk: Some(thief.jwk()),
        ..thief.header()
    };
    let fetched = Header {
        jku: Some("http://127.0.0.1:1/keys.json".to_owned()),
        ..thief.header()
    };
    let nameless = Header {
        kid: None,
        ..own.clone()
    };
    let under_another_name = Header {
        kid: Some("e".to_owned()),
        ..own.clone()
    };
    let path = Header {
        kid: Some("../../../../dev/null".to_owned()),
        ..thief.header()
    };
    let critical = Header {
        crit: Some(vec!["exp".to_owned()]),
        ..thief.header()
    };
    for header in [own, fetched, nameless, under_another_name, path, critical] {
        let token = encode(&header, &everything(), &thief.key).unwrap();
        assert_eq!(status(&relay, &token).await, 401, "{header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_critical_extension_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let signer = Signer::ed("d");
    write_keys(&file, &[signer.jwk()]);
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    let header = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..signer.header()
    };
    let token = encode(&header, &everything(), &signer.key).unwrap();
    assert_eq!(status(&relay, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_for_other_purposes_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let (good, other) = (Signer::ed("good"), Signer::rsa("other"));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let mut secret = Jwk::from_encoding_key(&key, Algorithm::HS256).unwrap();
    secret.common.key_id = Some("secret".to_owned());
    let mut encrypting = other.jwk();
    encrypting.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    let mut longer = other.jwk();
    longer.common.key_id = Some("longer".to_owned());
    longer.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::RS512);
    write_keys(&file, &[secret, encrypting, longer, good.jwk()]);
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    assert_eq!(status(&relay, &good.sign(&everything())).await, 404);
    assert_eq!(status(&relay, &other.sign(&everything())).await, 401);
    let named = |kid: &str, algorithm| Header {
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    };
    let by_secret = encode(&named("secret", Algorithm::HS256), &everything(), &key).unwrap();
    assert_eq!(status(&relay, &by_secret).await, 401);
    for algorithm in [Algorithm::RS256, Algorithm::RS512] {
        let token = encode(&named("longer", algorithm), &everything(), &other.key).unwrap();
        assert_eq!(status(&relay, &token).await, 401, "{algorithm:?}");
    }
}

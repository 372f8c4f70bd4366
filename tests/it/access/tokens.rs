//! Which tokens are accepted, and where a request carries them.

use comfy_relay::config::ServerConfig;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::signer::{Signer, guarded_by, write_keys};
use crate::support::subscriber::Subscriber;
use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{
    claims, everything, guarded, in_seconds, refusal, signed, token, upgrade,
};

/// A job without a preview: an authorized request is answered 404.
const JOB: &str = "/api/anime/jobs/unknown/preview";

/// The status for a request with a token: 404 if the token is accepted.
async fn status(relay: &TestRelay, token: &str) -> u16 {
    let request = relay.request(Method::GET, JOB);
    status_of(request, token).await
}

async fn status_of(request: RequestBuilder, token: &str) -> u16 {
    let (status, answer) = response(request.bearer_auth(token)).await;
    let code = &answer["error"]["code"];
    match status {
        404 => assert_eq!(code, "no_preview"),
        401 => assert_eq!(code, "unauthenticated"),
        other => panic!("{other}: {answer}"),
    }
    assert!(!answer.to_string().contains(token), "{answer}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_token_is_answered_with_a_challenge() {
    let relay = TestRelay::without_backend(guarded()).await;
    let response = relay.request(Method::GET, JOB).send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert_eq!(challenge, "Bearer realm=\"comfy-relay\"");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "unauthenticated");
    let request = relay.request_as("nonsense", Method::GET, JOB);
    let response = request.send().await.unwrap();
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.ends_with("error=\"invalid_token\""),
        "{challenge}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_be_in_a_header_a_subprotocol_or_the_query() {
    let relay = TestRelay::without_backend(guarded()).await;
    let good = token(&json!({}));
    assert_eq!(status(&relay, &good).await, 404);
    let by_query = relay.request(Method::GET, &format!("{JOB}?token={good}"));
    assert_eq!(response(by_query).await.0, 404);
    let by_key = relay.request(Method::GET, JOB).header("x-api-key", &good);
    assert_eq!(response(by_key).await.0, 404);
    // What names the token by its standard wins.
    let both = relay.request(Method::GET, JOB).header("x-api-key", "wrong");
    assert_eq!(status_of(both, &good).await, 404);
    let basic = relay
        .request(Method::GET, JOB)
        .header("authorization", format!("Basic {good}"));
    assert_eq!(response(basic).await.0, 401);

    let url = relay.socket_url("/ws/job");
    for request in [
        upgrade(&url, &[("authorization", &format!("bearer {good}"))]),
        upgrade(&url, &[("x-api-key", &good)]),
        upgrade(
            &url,
            &[("sec-websocket-protocol", &format!("bearer, {good}"))],
        ),
        upgrade(&format!("{url}?token={good}"), &[]),
    ] {
        let mut subscriber = Subscriber::connect(request).await;
        subscriber.receive().await;
        subscriber.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_subprotocol_is_selected_and_never_the_token() {
    for server in [guarded(), ServerConfig::default()] {
        let relay = TestRelay::without_backend(server).await;
        let offered = format!("bearer, {}", token(&json!({})));
        let request = upgrade(
            &relay.socket_url("/ws/job"),
            &[("sec-websocket-protocol", &offered)],
        );
        let (_, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "bearer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_socket_receives_the_reason() {
    let relay = TestRelay::without_backend(guarded()).await;
    let expired = token(&json!({"exp": in_seconds(-1)}));
    for path in ["/ws/job", "/ws/monitor"] {
        let url = relay.socket_url(path);
        for request in [
            upgrade(&url, &[]),
            upgrade(&url, &[("sec-websocket-protocol", "bearer, nonsense")]),
            upgrade(&url, &[("sec-websocket-protocol", "bearer")]),
            upgrade(&format!("{url}?token={expired}"), &[]),
        ] {
            assert_eq!(refusal(request).await, ("unauthenticated".to_owned(), 4401));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_and_not_before_are_checked() {
    let relay = TestRelay::without_backend(guarded()).await;
    for (changes, expected) in [
        (json!({}), 404),
        (json!({"exp": in_seconds(60) as f64 + 0.5}), 404),
        (json!({"exp": 1e15}), 404),
        (json!({"exp": 1e300}), 401),
        (json!({"exp": in_seconds(0)}), 401),
        (json!({"exp": in_seconds(-3_600)}), 401),
        (json!({"exp": -1}), 401),
        (json!({"exp": 0}), 401),
        (json!({"exp": null}), 401),
        (json!({"exp": in_seconds(3_600).to_string()}), 401),
        (json!({"exp": [in_seconds(3_600)]}), 401),
        (json!({"nbf": in_seconds(-1)}), 404),
        (json!({"nbf": in_seconds(60)}), 401),
        (json!({"nbf": "soon"}), 401),
        // Not checked without a setting.
        (json!({"aud": "somebody else", "iss": "anybody"}), 404),
    ] {
        assert_eq!(
            status(&relay, &token(&changes)).await,
            expected,
            "{changes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_another_audience_or_issuer_are_refused() {
    let mut server = guarded();
    server.access.audience = Some("comfy-relay".into());
    server.access.issuer = Some("https://login.example".into());
    let relay = TestRelay::without_backend(server).await;
    let issuer = "https://login.example";
    for (changes, expected) in [
        (json!({"aud": "comfy-relay", "iss": issuer}), 404),
        (json!({"aud": ["other", "comfy-relay"], "iss": issuer}), 404),
        (json!({"aud": "other", "iss": issuer}), 401),
        (json!({"aud": ["other"], "iss": issuer}), 401),
        (json!({"aud": [], "iss": issuer}), 401),
        (json!({"iss": issuer}), 401),
        (
            json!({"aud": "comfy-relay", "iss": "https://login.example/"}),
            401,
        ),
        (json!({"aud": "comfy-relay"}), 401),
        (json!({"aud": 7, "iss": issuer}), 401),
        (json!({}), 401),
    ] {
        assert_eq!(
            status(&relay, &token(&changes)).await,
            expected,
            "{changes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_ec_and_ed25519_keys_verify_their_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let signers = [Signer::rsa("r"), Signer::ec("e"), Signer::ed("d")];
    write_keys(&file, &signers.each_ref().map(Signer::jwk));
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    for signer in &signers {
        let good = signer.sign(&everything());
        assert_eq!(status(&relay, &good).await, 404, "{:?}", signer.algorithm);
        let expired = signer.sign(&claims(&json!({"exp": in_seconds(-10)})));
        assert_eq!(status(&relay, &expired).await, 401);
        // The same claims, signed with another key of the same id.
        let forger = match signer.algorithm {
            Algorithm::RS256 => Signer::rsa("r"),
            Algorithm::ES256 => Signer::ec("e"),
            _ => Signer::ed("d"),
        };
        assert_eq!(status(&relay, &forger.sign(&everything())).await, 401);
    }
    let nameless = encode(
        &Header::new(Algorithm::EdDSA),
        &everything(),
        &signers[2].key,
    )
    .unwrap();
    assert_eq!(
        status(&relay, &nameless).await,
        401,
        "ambiguous without a key id"
    );
    write_keys(&file, &[signers[2].jwk()]);
    let relay = TestRelay::without_backend(guarded_by(&file)).await;
    assert_eq!(
        status(&relay, &nameless).await,
        404,
        "unambiguous with one key"
    );
}

/// The program logs when it has reloaded its keys.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_reloaded_while_the_relay_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    write_keys(&file, &[old.jwk()]);
    let variables = [("AUTH_JWKS_FILE", file.to_str().unwrap())];
    let program = Program::start(&[], &variables);
    program.ready().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}{JOB}", program.address());
    let status = async |token: &str| status_of(client.get(&url), token).await;
    let (by_old, by_new) = (old.sign(&everything()), new.sign(&everything()));
    let nameless = encode(&Header::new(new.algorithm), &everything(), &new.key).unwrap();
    assert_eq!(status(&by_old).await, 404);
    assert_eq!(status(&by_new).await, 401);
    write_keys(&file, &[old.jwk(), new.jwk()]);
    program.logs("reloaded the keys for tokens keys=2").await;
    assert_eq!(status(&by_new).await, 404);
    assert_eq!(status(&by_old).await, 404);
    assert_eq!(status(&nameless).await, 401);

    // An invalid file changes nothing, and does not prevent a later reload.
    std::fs::write(&file, "{\"keys\": [").unwrap();
    program.logs("stay in use").await;
    assert_eq!(status(&by_new).await, 404);
    assert_eq!(status(&by_old).await, 404);
    write_keys(&file, &[new.jwk()]);
    program.logs("reloaded the keys for tokens keys=1").await;
    assert_eq!(status(&by_old).await, 401);
    assert_eq!(status(&by_new).await, 404);
    assert_eq!(status(&nameless).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_tokens_are_refused_and_not_echoed() {
    let relay = TestRelay::without_backend(guarded()).await;
    let good = token(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts.as_slice() else {
        panic!("{good}");
    };
    let other = signed(&claims(&json!({"sub": "eve"})));
    let other_body = other.split('.').nth(1).unwrap();
    for wrong in [
        "x".to_owned(),
        "..".to_owned(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}.{other_body}.{signature}"),
        format!("{good}x"),
        format!("{good}.x"),
        format!("{head}.{body}.{}", &signature[1..]),
        "x".repeat(20_000),
        signed(&json!([])),
        signed(&json!({})),
        signed(&claims(&json!({"jobs": 7}))),
        signed(&claims(&json!({"scope": {"subscribe": true}}))),
        signed(&claims(&json!({"sub": 7}))),
    ] {
        assert_eq!(status(&relay, &wrong).await, 401, "{wrong}");
    }
    let other_secret = EncodingKey::from_secret(b"another secret of more than 32 bytes");
    let forged = encode(&Header::default(), &everything(), &other_secret).unwrap();
    assert_eq!(status(&relay, &forged).await, 401);
}

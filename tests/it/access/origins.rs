//! Which web pages may use the relay (CORS and WebSocket origins).

use comfy_relay::config::{Origins, PageOrigin, ServerConfig};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use url::Url;

use crate::support::test_relay::{TestRelay, response};
use crate::support::tokens::{guarded, upgrade};

const REPORT: &str = "/api/anime/jobs/job/progress";
const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";

fn allowing(origins: Origins) -> ServerConfig {
    let mut server = ServerConfig::default();
    server.access.origins = origins;
    server
}

fn listed() -> ServerConfig {
    allowing(Origins::Listed(vec![PageOrigin::Site(
        Url::parse(APP).unwrap(),
    )]))
}

fn report(relay: &TestRelay) -> RequestBuilder {
    let report = json!({"progress": 10, "status": "processing"});
    relay.request(Method::POST, REPORT).json(&report)
}

/// The answer to a page of this origin that opens a socket: 101 if it may.
async fn socket(relay: &TestRelay, origin: Option<&str>, host: Option<&str>) -> (u16, String) {
    let origin = origin.map(|origin| ("origin", origin));
    let headers: Vec<_> = origin.into_iter().collect();
    let mut request = upgrade(&relay.socket_url("/ws/job"), &headers);
    if let Some(host) = host {
        request.headers_mut().insert("host", host.parse().unwrap());
    }
    match connect_async(request).await {
        Ok(_) => (101, String::new()),
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let code = answer["error"]["code"].as_str().unwrap().to_owned();
            (response.status().as_u16(), code)
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_for_own_pages_unless_other_origins_are_listed() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let own = format!("http://{}", relay.address());
    let refused = (403, "origin_not_allowed".to_owned());
    assert_eq!(socket(&relay, None, None).await.0, 101);
    assert_eq!(socket(&relay, Some(&own), None).await.0, 101);
    for foreign in [EVIL, "null", "http://localhost.evil.example", "file://"] {
        assert_eq!(
            socket(&relay, Some(foreign), None).await,
            refused,
            "{foreign}"
        );
    }
    let relay = TestRelay::without_backend(listed()).await;
    assert_eq!(socket(&relay, Some(APP), None).await.0, 101);
    assert_eq!(socket(&relay, Some(EVIL), None).await, refused);
    assert_eq!(
        socket(&relay, Some("http://app.example"), None).await,
        refused
    );
    let relay = TestRelay::without_backend(allowing(Origins::Any)).await;
    assert_eq!(socket(&relay, Some(EVIL), None).await.0, 101);
    let null = allowing(Origins::Listed(vec![PageOrigin::Null]));
    let relay = TestRelay::without_backend(null).await;
    assert_eq!(socket(&relay, Some("null"), None).await.0, 101);
    assert_eq!(socket(&relay, Some(EVIL), None).await, refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_this_machine_are_let_in_unless_tokens_are_needed() {
    let pages = [
        "http://localhost",
        "http://localhost:5173",
        "http://127.0.0.1:8080",
        "http://[::1]:1",
    ];
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    for page in pages {
        assert_eq!(socket(&relay, Some(page), None).await.0, 101, "{page}");
        let (status, _) = response(report(&relay).header("origin", page)).await;
        assert_eq!(status, 202, "{page}");
        let health = relay.request(Method::GET, "/api/anime/health");
        let health = health.header("origin", page).send().await.unwrap();
        assert_eq!(health.headers()["access-control-allow-origin"], page);
    }
    let relay = TestRelay::without_backend(guarded()).await;
    let refused = (403, "origin_not_allowed".to_owned());
    for page in pages {
        assert_eq!(socket(&relay, Some(page), None).await, refused, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_cannot_change_anything() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    for foreign in [EVIL, "null"] {
        // A form, which browsers send without a CORS preflight.
        let request = relay
            .request(Method::POST, REPORT)
            .header("origin", foreign)
            .header("content-type", "text/plain")
            .body(r#"{"progress": 10, "status": "processing"}"#);
        let (status, answer) = response(request).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (403, &json!("origin_not_allowed"))
        );
    }
    let (_, page) = relay.get("/api/anime/jobs").await;
    assert_eq!(page["jobs"], json!([]));
    let own = format!("http://{}", relay.address());
    assert_eq!(response(report(&relay).header("origin", own)).await.0, 202);
    assert_eq!(response(report(&relay)).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_for_listed_origins() {
    let get = |relay: &TestRelay, origin: &str| {
        let request = relay.request(Method::GET, "/api/anime/health");
        request.header("origin", origin).send()
    };
    for (server, origin, is_allowed) in [
        (ServerConfig::default(), EVIL, false),
        (listed(), APP, true),
        (listed(), EVIL, false),
        (allowing(Origins::Any), EVIL, true),
    ] {
        let relay = TestRelay::without_backend(server).await;
        let response = get(&relay, origin).await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["vary"], "Origin");
        let answer = headers.get("access-control-allow-origin");
        assert_eq!(
            answer.map(|answer| answer.to_str().unwrap()),
            is_allowed.then_some(origin)
        );
        assert!(headers.get("access-control-allow-credentials").is_none());
    }
    let relay = TestRelay::without_backend(listed()).await;
    let failed = report(&relay)
        .header("origin", APP)
        .body("{")
        .send()
        .await
        .unwrap();
    assert_eq!(failed.status(), 400);
    assert_eq!(
        failed.headers()["access-control-allow-origin"],
        APP,
        "errors can be read as well"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cors_preflight_is_alloweded() {
    let ask = |relay: &TestRelay, origin: &str| {
        let request = relay.request(Method::OPTIONS, REPORT);
        let request = request.header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .send()
    };
    let relay = TestRelay::without_backend(listed()).await;
    let answer = ask(&relay, APP).await.unwrap();
    assert_eq!(answer.status(), 204);
    let headers = answer.headers();
    assert_eq!(headers["access-control-allow-origin"], APP);
    assert_eq!(headers["vary"], "Origin");
    for (name, word) in [
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-allow-headers", "idempotency-key"),
        ("access-control-allow-headers", "x-api-key"),
        ("access-control-allow-headers", "x-request-id"),
    ] {
        assert!(headers[name].to_str().unwrap().contains(word), "{name}");
    }
    let refusal = ask(&relay, EVIL).await.unwrap();
    assert_eq!(refusal.status(), 403);
    let allowed = refusal.headers().get("access-control-allow-origin");
    assert_eq!(allowed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_name_is_refused() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let port = relay.address().split_once(':').unwrap().1.to_owned();
    let get = |host: String| {
        let request = relay.request(Method::GET, "/api/anime/jobs");
        response(request.header("host", host))
    };
    for host in [
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        relay.address(),
    ] {
        assert_eq!(get(host.clone()).await.0, 200, "{host}");
    }
    for host in [
        format!("evil.example:{port}"),
        "evil.example".into(),
        "localhost.evil.example".into(),
    ] {
        let (status, answer) = get(host.clone()).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (403, &json!("host_not_allowed")),
            "{host}"
        );
        // With DNS rebinding, the page has this origin in the browser.
        let origin = format!("http://{host}");
        let (status, code) = socket(&relay, Some(&origin), Some(&host)).await;
        assert_eq!((status, code.as_str()), (403, "host_not_allowed"));
    }
    // With listed origins the relay has a public name, which is not checked.
    let relay = TestRelay::without_backend(listed()).await;
    let request = relay.request(Method::GET, "/api/anime/jobs");
    assert_eq!(
        response(request.header("host", "relay.example")).await.0,
        200
    );
}

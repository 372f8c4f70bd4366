//! The id of a request: in its answer, and in every line that is logged of it.

use reqwest::{Client, Method};

use crate::support::program::Program;
use crate::support::test_relay::{Settings, TestRelay};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_id_of_its_request_or_a_new_one() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    let id_of = async |method: Method, path: &str, id: Option<&str>| {
        let mut request = relay.request(method, path);
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let response = request.send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap();
        id.to_owned()
    };
    for path in ["/healthz", "/api/anime/jobs", "/nowhere", "/ws/job"] {
        assert_eq!(id_of(Method::GET, path, Some("shot-12")).await, "shot-12");
        let fresh = id_of(Method::GET, path, None).await;
        assert_eq!(fresh.len(), 36, "{fresh}");
        assert_ne!(fresh, id_of(Method::GET, path, None).await);
    }
    let hostile = id_of(Method::POST, "/api/anime/jobs", Some("a b\tc")).await;
    assert_eq!(hostile.len(), 36, "{hostile}");
    let long = id_of(Method::GET, "/healthz", Some(&"x".repeat(129))).await;
    assert_eq!(long.len(), 36, "{long}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_of_a_request_has_its_id() {
    let program = Program::start(&[], &[("LOG", "comfy_relay=debug")]);
    program.ready().await;
    let url = format!("http://{}/nowhere", program.address());
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client.get(url).header("x-request-id", "take-the-lift");
    assert_eq!(request.send().await.unwrap().status(), 404);
    program.logs("status=404").await;
    let log = program.log();
    let line = log.lines().find(|line| line.contains("status=404"));
    assert!(line.unwrap().contains("request{id=take-the-lift}"), "{log}");
}

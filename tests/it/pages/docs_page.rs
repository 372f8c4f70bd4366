//! The page that draws the documents.

use std::collections::HashSet;

use comfy_relay::config::ServerConfig;

use crate::support::browser::{done, run};
use crate::support::test_relay::TestRelay;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_draws_every_operation_on_a_phone_and_a_desk_by_day_and_by_night() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let (_, document) = relay.get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{method}{path}"))
    });
    let operations: Vec<String> = operations.collect();
    assert!(operations.len() > 30, "{operations:?}");
    let Some(page) = run("docs.mjs", &[&format!("{}/docs", relay.url())]) else {
        return;
    };
    let events = done(page).await;
    let complaint = events.iter().find(|it| it["event"] == "console_error");
    assert_eq!(complaint, None);
    let mut backgrounds = HashSet::new();
    let drawn = events.iter().filter(|it| it["event"] == "page");
    for page in drawn.clone() {
        let where_seen = format!("{} px, {}", page["width"], page["colorScheme"]);
        let names = page["names"].as_array().unwrap();
        for operation in &operations {
            let mut names = names.iter().map(|name| name.as_str().unwrap());
            assert!(
                names.any(|name| name.starts_with(operation)),
                "{where_seen}: {operation}"
            );
        }
        assert_eq!(page["sideways"], 0, "{where_seen}");
        assert_eq!(
            page["violations"].as_array().unwrap().len(),
            0,
            "{where_seen}: {}",
            page["violations"]
        );
        backgrounds.insert(page["background"].as_str().unwrap());
    }
    assert_eq!((drawn.count(), backgrounds.len()), (4, 2));
    let found = events.iter().find(|it| it["event"] == "found").unwrap();
    let found: Vec<&str> = found["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(found, ["/api/anime/jobs/{job_id}/retry"]);
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_is_in_no_foreign_frame() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let page = relay
        .request(reqwest::Method::GET, "/docs")
        .send()
        .await
        .unwrap();
    assert_eq!(
        page.headers()["content-security-policy"],
        "frame-ancestors 'self'"
    );
    let html = page.text().await.unwrap();
    assert!(html.contains("default-src 'none'; script-src 'self'"));
    assert!(!html.contains("://") && !html.contains("<style") && !html.contains("style="));
}

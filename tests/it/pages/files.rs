//! The files of the pages.

use std::collections::HashSet;

use reqwest::Method;
use reqwest::redirect::Policy;

use crate::support::test_relay::TestRelay;
use comfy_relay::config::ServerConfig;

const PAGES: [&str; 5] = ["/", "/jobs/shot-12", "/history", "/servers", "/connections"];

async fn get(relay: &TestRelay, path: &str) -> String {
    let response = relay.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.text().await.unwrap()
}

/// What stands between two texts, each time.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(move |part| Some(part.split_once(after)?.0))
}

/// The keys of a table of texts: words before a colon and a text, or a list of two.
fn keys_of(table: &str) -> HashSet<String> {
    let code = table.lines().filter(|line| line.starts_with("  "));
    let entries = code.flat_map(|line| line.split(", ").flat_map(|part| part.split_once(": ")));
    let keys = entries.filter(|(_, value)| value.starts_with(['"', '[']));
    let keys = keys.map(|(key, _)| key.trim().to_owned());
    keys.filter(|key| {
        key.chars()
            .all(|it| it.is_ascii_lowercase() || it == '_' || it.is_ascii_digit())
    })
    .collect()
}

#[tokio::test]
async fn every_file_that_a_page_needs_is_served() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let mut to_read = Vec::new();
    for page in PAGES {
        let html = get(&relay, page).await;
        let root = if page.starts_with("/jobs/") {
            "../"
        } else {
            ""
        };
        assert!(
            !html.contains(['{', '}']),
            "{page} has a gap that was not filled"
        );
        let own = format!("\"{root}web/");
        to_read.extend(between(&html, &own, "\"").map(str::to_owned));
        let links = between(&html, "href=\"", "\"").chain(between(&html, "src=\"", "\""));
        for link in links {
            assert!(
                link.starts_with('#') || !link.contains(':'),
                "{page}: {link}"
            );
        }
        assert!(
            !html.contains("style=") && !html.contains("<style"),
            "{page}"
        );
    }
    let mut read = HashSet::new();
    while let Some(file) = to_read.pop() {
        if !read.insert(file.clone()) {
            continue;
        }
        let text = get(&relay, &format!("/web/{file}")).await;
        to_read.extend(between(&text, "from \"./", "\"").map(str::to_owned));
    }
    // Of these a page loads one, and some pages another one as well; each language has all texts.
    let mut keys = Vec::new();
    for language in ["english", "german", "japanese"] {
        let mut known = HashSet::new();
        for (part, least) in [("", 50), ("_job", 50), ("_servers", 10)] {
            let found = keys_of(&get(&relay, &format!("/web/{language}{part}.js")).await);
            assert!(found.len() > least, "{language}{part}: {found:?}");
            assert!(known.is_disjoint(&found), "{language}{part}");
            known.extend(found);
        }
        keys.push(known);
    }
    assert!(keys[0].len() > 150, "{keys:?}");
    for other in &keys[1..] {
        let differing: Vec<&String> = keys[0].symmetric_difference(other).collect();
        assert!(differing.is_empty(), "{differing:?}");
    }
    assert!(read.len() > 40, "{read:?}");
}

#[tokio::test]
async fn a_browser_that_has_a_file_is_not_sent_it_again() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let first = relay.request(Method::GET, "/web/home.js").send().await;
    let tag = first.unwrap().headers()["etag"].clone();
    let ask = |tag: &str| {
        let request = relay.request(Method::GET, "/web/home.js");
        request.header("if-none-match", tag.to_owned()).send()
    };
    let second = ask(tag.to_str().unwrap()).await.unwrap();
    assert_eq!(second.status(), 304);
    assert_eq!(second.headers()["etag"], tag);
    assert_eq!(second.bytes().await.unwrap().len(), 0);
    assert_eq!(ask("W/\"other\"").await.unwrap().status(), 200);
    let head = relay.request(Method::HEAD, "/web/home.js").send().await;
    assert_eq!(head.unwrap().headers()["etag"], tag);
}

#[tokio::test]
async fn a_page_with_a_slash_at_its_end_leads_to_the_page() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none());
    let client = client.build().unwrap();
    for (path, page) in [
        ("/jobs/shot-12/", "../shot-12"),
        ("/history/", "../history"),
        ("/test/", "../test"),
    ] {
        let answer = client
            .get(format!("{}{path}", relay.url()))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 308, "{path}");
        assert_eq!(answer.headers()["location"], page);
    }
    let answer = client.get(format!("{}/jobs/", relay.url())).send().await;
    assert_eq!(answer.unwrap().status(), 404);
}

//! The pages, compiled into the program.

use hyper::{Response, StatusCode};

use super::body::{Body, full};

/// Path, kind and text of every file.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("web/index.html"),
    ),
    (
        "/web/page.css",
        "text/css; charset=utf-8",
        include_str!("web/page.css"),
    ),
    (
        "/web/page.js",
        "text/javascript; charset=utf-8",
        include_str!("web/page.js"),
    ),
    (
        "/web/relay.js",
        "text/javascript; charset=utf-8",
        include_str!("web/relay.js"),
    ),
];

/// The file at a path.
pub(super) fn page(path: &str) -> Option<Response<Body>> {
    let (_, kind, text) = FILES.iter().find(|(at, _, _)| *at == path)?;
    Some(full(StatusCode::OK, kind, *text))
}

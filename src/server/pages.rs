//! The pages, compiled into the program.

use hyper::{Response, StatusCode};

use super::response::{Body, full};

/// Path, kind and text of every file.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("pages/index.html"),
    ),
    (
        "/web/page.css",
        "text/css; charset=utf-8",
        include_str!("pages/page.css"),
    ),
    (
        "/web/page.js",
        "text/javascript; charset=utf-8",
        include_str!("pages/page.js"),
    ),
    (
        "/web/relay.js",
        "text/javascript; charset=utf-8",
        include_str!("pages/relay.js"),
    ),
];

/// The file at a path.
pub(super) fn page(path: &str) -> Option<Response<Body>> {
    let (_, kind, text) = FILES.iter().find(|(at, _, _)| *at == path)?;
    Some(full(StatusCode::OK, kind, *text))
}

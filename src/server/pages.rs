//! The pages, compiled into the program, and where the client that they use is found.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::client;
use super::response::{Body, full};

/// Only pages of the relay may frame a page: one of somebody else could have its visitors press "Cancel" unseen.
/// The rest of each page's policy is in the page, where this directive is not allowed.
const FRAMES: HeaderValue = HeaderValue::from_static("frame-ancestors 'self'");

/// A file that is served as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 10] = [
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        text: include_str!("pages/home/index.html"),
    },
    Asset {
        path: "/web/page.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("pages/home/page.css"),
    },
    Asset {
        path: "/web/page.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("pages/home/page.js"),
    },
    Asset {
        path: "/web/elements.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("pages/home/elements.js"),
    },
    Asset {
        path: "/web/explanation.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("pages/home/explanation.css"),
    },
    Asset {
        path: "/web/explanation.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("pages/home/explanation.js"),
    },
    Asset {
        path: "/web/token.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("pages/home/token.js"),
    },
    Asset {
        path: "/favicon.ico",
        content_type: "image/svg+xml",
        text: include_str!("pages/favicon.svg"),
    },
    Asset {
        path: "/websocket_test_client.html",
        content_type: "text/html; charset=utf-8",
        text: include_str!("pages/websocket_test_client.html"),
    },
    Asset {
        // Its users have it below this path since before the other modules.
        path: "/web/relay.js",
        content_type: client::CONTENT_TYPE,
        text: "export * from \"../client/relay.js\";\n",
    },
];

impl Asset {
    /// The file at a path.
    pub(super) fn find(path: &str) -> Option<Self> {
        let page = ASSETS.into_iter().find(|asset| asset.path == path);
        page.or_else(|| {
            let (path, text) = client::find(path)?;
            Some(Self {
                path,
                content_type: client::CONTENT_TYPE,
                text,
            })
        })
    }

    pub(super) fn response(self) -> Response<Body> {
        let mut response = full(StatusCode::OK, self.content_type, self.text);
        if self.content_type.starts_with("text/html") {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, FRAMES);
        }
        response
    }
}

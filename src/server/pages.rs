//! The pages, compiled into the program, and where the client that they use is found.

mod dashboard;

use std::hash::{DefaultHasher, Hash, Hasher};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::client;
use super::response::{Body, empty, full};

pub(super) use dashboard::Page;

/// Only pages of the relay may frame a page: one of somebody else could have its visitors press "Cancel" unseen.
/// The rest of the policy of these pages is in the page, where this directive is not allowed.
const FRAMES: HeaderValue = HeaderValue::from_static("frame-ancestors 'self'");

/// A browser keeps a file, and asks each time whether it is still the same: another release may have changed it.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = client::CONTENT_TYPE;

/// A file that is served as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// The table of files: the path of each, its type, and where it is.
macro_rules! assets {
    ($($path:literal $content_type:ident $file:literal),* $(,)?) => {
        &[$(Asset { path: $path, content_type: $content_type, text: include_str!($file) }),*]
    };
}

const SVG: &str = "image/svg+xml";

const ASSETS: &[Asset] = assets![
    "/favicon.ico" SVG "pages/favicon.svg",
    "/test" HTML "pages/test/index.html",
    "/web/page.css" CSS "pages/test/page.css",
    "/web/page.js" SCRIPT "pages/test/page.js",
    "/docs" HTML "pages/docs/index.html",
    "/web/docs.css" CSS "pages/docs/docs.css",
    "/web/docs.js" SCRIPT "pages/docs/docs.js",
    "/web/explanation.css" CSS "pages/test/explanation.css",
    "/web/explanation.js" SCRIPT "pages/test/explanation.js",
    "/websocket_test_client.html" HTML "pages/websocket_test_client.html",
    "/web/base.css" CSS "pages/dashboard/base.css",
    "/web/home.css" CSS "pages/dashboard/home.css",
    "/web/job.css" CSS "pages/dashboard/job.css",
    "/web/servers.css" CSS "pages/dashboard/servers.css",
    "/web/submit.css" CSS "pages/dashboard/submit.css",
    "/web/theme.js" SCRIPT "pages/dashboard/theme.js",
    "/web/api.js" SCRIPT "pages/dashboard/api.js",
    "/web/axis.js" SCRIPT "pages/dashboard/axis.js",
    "/web/backends.js" SCRIPT "pages/dashboard/backends.js",
    "/web/bell.js" SCRIPT "pages/dashboard/bell.js",
    "/web/blank.js" SCRIPT "pages/dashboard/blank.js",
    "/web/block.js" SCRIPT "pages/dashboard/block.js",
    "/web/cancel.js" SCRIPT "pages/dashboard/cancel.js",
    "/web/card.js" SCRIPT "pages/dashboard/card.js",
    "/web/cards.js" SCRIPT "pages/dashboard/cards.js",
    "/web/clipboard.js" SCRIPT "pages/dashboard/clipboard.js",
    "/web/clock.js" SCRIPT "pages/dashboard/clock.js",
    "/web/connections.js" SCRIPT "pages/dashboard/connections.js",
    "/web/elements.js" SCRIPT "pages/dashboard/elements.js",
    "/web/entries.js" SCRIPT "pages/dashboard/entries.js",
    "/web/english.js" SCRIPT "pages/dashboard/english.js",
    "/web/english_job.js" SCRIPT "pages/dashboard/english_job.js",
    "/web/english_servers.js" SCRIPT "pages/dashboard/english_servers.js",
    "/web/english_submit.js" SCRIPT "pages/dashboard/english_submit.js",
    "/web/farm.js" SCRIPT "pages/dashboard/farm.js",
    "/web/frame.js" SCRIPT "pages/dashboard/frame.js",
    "/web/gallery.js" SCRIPT "pages/dashboard/gallery.js",
    "/web/german.js" SCRIPT "pages/dashboard/german.js",
    "/web/german_job.js" SCRIPT "pages/dashboard/german_job.js",
    "/web/german_servers.js" SCRIPT "pages/dashboard/german_servers.js",
    "/web/german_submit.js" SCRIPT "pages/dashboard/german_submit.js",
    "/web/headline.js" SCRIPT "pages/dashboard/headline.js",
    "/web/history.js" SCRIPT "pages/dashboard/history.js",
    "/web/home.js" SCRIPT "pages/dashboard/home.js",
    "/web/japanese.js" SCRIPT "pages/dashboard/japanese.js",
    "/web/japanese_job.js" SCRIPT "pages/dashboard/japanese_job.js",
    "/web/japanese_servers.js" SCRIPT "pages/dashboard/japanese_servers.js",
    "/web/japanese_submit.js" SCRIPT "pages/dashboard/japanese_submit.js",
    "/web/job.js" SCRIPT "pages/dashboard/job.js",
    "/web/job_state.js" SCRIPT "pages/dashboard/job_state.js",
    "/web/keys.js" SCRIPT "pages/dashboard/keys.js",
    "/web/lane.js" SCRIPT "pages/dashboard/lane.js",
    "/web/lane_list.js" SCRIPT "pages/dashboard/lane_list.js",
    "/web/list.js" SCRIPT "pages/dashboard/list.js",
    "/web/live.js" SCRIPT "pages/dashboard/live.js",
    "/web/makes.js" SCRIPT "pages/dashboard/makes.js",
    "/web/operate.js" SCRIPT "pages/dashboard/operate.js",
    "/web/picture.js" SCRIPT "pages/dashboard/picture.js",
    "/web/rail.js" SCRIPT "pages/dashboard/rail.js",
    "/web/ring.js" SCRIPT "pages/dashboard/ring.js",
    "/web/row.js" SCRIPT "pages/dashboard/row.js",
    "/web/said.js" SCRIPT "pages/dashboard/said.js",
    "/web/server_card.js" SCRIPT "pages/dashboard/server_card.js",
    "/web/servers.js" SCRIPT "pages/dashboard/servers.js",
    "/web/shown.js" SCRIPT "pages/dashboard/shown.js",
    "/web/speed_line.js" SCRIPT "pages/dashboard/speed_line.js",
    "/web/store.js" SCRIPT "pages/dashboard/store.js",
    "/web/tab.js" SCRIPT "pages/dashboard/tab.js",
    "/web/submit.js" SCRIPT "pages/dashboard/submit.js",
    "/web/take.js" SCRIPT "pages/dashboard/take.js",
    "/web/texts.js" SCRIPT "pages/dashboard/texts.js",
    "/web/timeline.js" SCRIPT "pages/dashboard/timeline.js",
    "/web/tip.js" SCRIPT "pages/dashboard/tip.js",
    "/web/token.js" SCRIPT "pages/dashboard/token.js",
    "/web/totals.js" SCRIPT "pages/dashboard/totals.js",
    "/web/waterfall.js" SCRIPT "pages/dashboard/waterfall.js",
    "/web/why.js" SCRIPT "pages/dashboard/why.js",
    "/web/words.js" SCRIPT "pages/dashboard/words.js",
];

/// Its users have the client below this path since before it was made of modules.
const RELAY_JS: Asset = Asset {
    path: "/web/relay.js",
    content_type: client::CONTENT_TYPE,
    text: "export * from \"../client/relay.js\";\n",
};

impl Asset {
    /// A text in JSON that does not change.
    pub(super) fn json(text: &'static str) -> Self {
        Self {
            path: "",
            content_type: "application/json",
            text,
        }
    }

    /// The file at a path.
    pub(super) fn find(path: &str) -> Option<Self> {
        let pages = ASSETS.iter().chain([&RELAY_JS]).copied();
        let page = pages.into_iter().find(|asset| asset.path == path);
        page.or_else(|| {
            let (path, text) = client::find(path)?;
            Some(Self {
                path,
                content_type: client::CONTENT_TYPE,
                text,
            })
        })
    }

    /// The file, or 304 for a browser that has this one.
    pub(super) fn response(self, request: &HeaderMap) -> Response<Body> {
        let tag = self.tag();
        let is_known = request
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .any(|known| *known == tag);
        let mut response = if is_known {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            full(StatusCode::OK, self.content_type, self.text)
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, REVALIDATE);
        headers.insert(header::ETAG, tag);
        if self.content_type == HTML {
            headers.insert(header::CONTENT_SECURITY_POLICY, FRAMES);
        }
        response
    }

    /// Weak, because the bytes differ where it is compressed.
    fn tag(self) -> HeaderValue {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        HeaderValue::from_str(&tag).expect("hexadecimal digits can stand in a header")
    }
}

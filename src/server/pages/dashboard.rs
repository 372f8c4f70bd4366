//! The pages of the dashboard: one frame around the content of each.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::HTML;
use crate::server::response::{Body, full};

/// Everything comes from the relay itself, and nothing is inline. Pictures can be previews, which come over the socket.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
);

const FRAME: &str = include_str!("dashboard/shell.html");
const HISTORY_LIST: &str = include_str!("dashboard/list.html");
const STYLE_LINK: &str = "<link rel=\"stylesheet\" href=\"{root}web/{style}.css\">";

/// The place of a lane until the script of the page draws it, so that nothing moves then.
const LANE: &str = "<li class=\"lane skeleton\"><div class=\"who\"><b></b><span class=\"until\"></span></div><div class=\"track\"></div></li>";

/// With more servers than this, lanes are lower; the script of the page has the same number.
const DENSE: usize = 16;

/// A page of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Page {
    /// The farm, what runs, and what has ended.
    Home,
    /// The jobs that have ended.
    History,
    /// One job.
    Job,
    /// The ComfyUI servers.
    Servers,
    /// Who follows which job.
    Connections,
    /// Submits named workflows.
    Submit,
}

impl Page {
    /// The page at a path.
    pub(in crate::server) fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Home,
            "/history" => Self::History,
            "/servers" => Self::Servers,
            "/connections" => Self::Connections,
            "/submit" => Self::Submit,
            _ => {
                let job = path.strip_prefix("/jobs/")?;
                (!job.is_empty() && !job.contains('/')).then_some(Self::Job)?
            }
        })
    }

    /// The page. `lanes` is how many servers there are.
    pub(in crate::server) fn response(self, lanes: usize) -> Response<Body> {
        let mut response = full(StatusCode::OK, HTML, self.html(lanes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }

    fn html(self, lanes: usize) -> String {
        let style = self
            .style()
            .map_or_else(String::new, |style| STYLE_LINK.replace("{style}", style));
        FRAME
            .replace("{style}", &style)
            .replace("{main}", self.content())
            .replace("{list}", HISTORY_LIST)
            .replace("{dense}", if lanes > DENSE { " dense" } else { "" })
            .replace("{lanes}", &LANE.repeat(lanes))
            .replace("{page}", self.name())
            .replace("{root}", self.root())
    }

    /// What its script is called.
    fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::History => "history",
            Self::Job => "job",
            Self::Servers => "servers",
            Self::Connections => "connections",
            Self::Submit => "submit",
        }
    }

    /// The style that it has beside that of the frame.
    fn style(self) -> Option<&'static str> {
        match self {
            Self::Home => Some("home"),
            Self::History => None,
            Self::Job => Some("job"),
            Self::Servers | Self::Connections => Some("servers"),
            Self::Submit => Some("submit"),
        }
    }

    fn content(self) -> &'static str {
        match self {
            Self::Home => include_str!("dashboard/home.html"),
            Self::History => include_str!("dashboard/history.html"),
            Self::Job => include_str!("dashboard/job.html"),
            Self::Servers => include_str!("dashboard/servers.html"),
            Self::Connections => include_str!("dashboard/connections.html"),
            Self::Submit => include_str!("dashboard/submit.html"),
        }
    }

    /// Where the root of the relay is, seen from the page: it may be below the prefix of a proxy.
    fn root(self) -> &'static str {
        if self == Self::Job { "../" } else { "" }
    }
}

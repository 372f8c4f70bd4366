//! [`ComfyRoute`]: what is answered for all servers at once.

use hyper::Method;

use super::path::ComfyPath;
use crate::auth::Scope;

/// What is answered for all servers at once. Parts of paths are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComfyRoute<'a> {
    Socket,
    Prompt,
    Length,
    Queue,
    DeleteWaiting,
    Interrupt,
    History,
    HistoryEntry(&'a str),
    DeleteHistory,
    Jobs,
    Job(&'a str),
    CancelJob(&'a str),
    CancelJobs,
    View,
    Upload,
    /// Of one class, or of all.
    ObjectInfo(Option<&'a str>),
    SystemStats,
    /// Whatever any server can answer.
    Other,
}

impl<'a> ComfyRoute<'a> {
    /// Each path is there with and without `/api` before it, but that of jobs.
    pub(super) fn find(method: &Method, path: &'a ComfyPath) -> Self {
        let is_api = path.is_api();
        let is_get = [Method::GET, Method::HEAD].contains(method);
        let is_post = *method == Method::POST;
        match path.segments().as_slice() {
            ["ws"] if is_get => Self::Socket,
            ["prompt"] if is_get => Self::Length,
            ["prompt"] if is_post => Self::Prompt,
            ["queue"] if is_get => Self::Queue,
            ["queue"] if is_post => Self::DeleteWaiting,
            ["interrupt"] if is_post => Self::Interrupt,
            ["history"] if is_get => Self::History,
            ["history", id] if is_get => Self::HistoryEntry(id),
            ["history"] if is_post => Self::DeleteHistory,
            ["jobs"] if is_get && is_api => Self::Jobs,
            ["jobs", id] if is_get && is_api => Self::Job(id),
            ["jobs", "cancel"] if is_post && is_api => Self::CancelJobs,
            ["jobs", id, "cancel"] if is_post && is_api => Self::CancelJob(id),
            ["view"] if is_get => Self::View,
            ["upload", "image" | "mask"] if is_post => Self::Upload,
            ["object_info"] if is_get => Self::ObjectInfo(None),
            ["object_info", class] if is_get => Self::ObjectInfo(Some(class)),
            ["system_stats"] if is_get => Self::SystemStats,
            _ => Self::Other,
        }
    }

    /// What its caller needs; `None` where the route itself checks that.
    pub(super) fn scope(self, method: &Method) -> Option<Scope> {
        match self {
            Self::Socket | Self::Prompt => None,
            Self::DeleteWaiting | Self::Interrupt | Self::CancelJob(_) | Self::CancelJobs => {
                Some(Scope::Cancel)
            }
            // What the routes of extensions do is not known: they may change the server.
            Self::DeleteHistory | Self::Upload => Some(Scope::Submit),
            Self::Other if !is_safe(method) => Some(Scope::Submit),
            _ => Some(Scope::Subscribe),
        }
    }
}

fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_is_there_with_and_without_api() {
        for (method, path, expected) in [
            (Method::GET, "/prompt", ComfyRoute::Length),
            (Method::POST, "/api/prompt", ComfyRoute::Prompt),
            (
                Method::GET,
                "/history/a%2Fb",
                ComfyRoute::HistoryEntry("a/b"),
            ),
            (Method::GET, "/api/jobs/a", ComfyRoute::Job("a")),
            (Method::POST, "/api/jobs/cancel", ComfyRoute::CancelJobs),
            (Method::GET, "/jobs/a", ComfyRoute::Other),
            (Method::DELETE, "/queue", ComfyRoute::Other),
            (Method::GET, "/api", ComfyRoute::Other),
            (Method::GET, "/", ComfyRoute::Other),
        ] {
            let path = ComfyPath::parse(path).unwrap();
            assert_eq!(ComfyRoute::find(&method, &path), expected, "{path:?}");
        }
    }

    #[test]
    fn an_encoded_path_is_the_same_route() {
        for path in ["/%71ueue", "/%61pi/queu%65", "//queue", "/api//queue"] {
            let path = ComfyPath::parse(path).unwrap();
            let route = ComfyRoute::find(&Method::POST, &path);
            assert_eq!(route, ComfyRoute::DeleteWaiting, "{path:?}");
            assert_eq!(route.scope(&Method::POST), Some(Scope::Cancel));
        }
    }

    #[test]
    fn what_changes_something_needs_more_than_to_read() {
        let needs = |method: Method, path| {
            let path = ComfyPath::parse(path).unwrap();
            ComfyRoute::find(&method, &path).scope(&method)
        };
        assert_eq!(needs(Method::GET, "/queue"), Some(Scope::Subscribe));
        assert_eq!(needs(Method::POST, "/queue"), Some(Scope::Cancel));
        assert_eq!(needs(Method::POST, "/api/jobs/cancel"), Some(Scope::Cancel));
        assert_eq!(needs(Method::POST, "/free"), Some(Scope::Submit));
        assert_eq!(needs(Method::GET, "/free"), Some(Scope::Subscribe));
        assert_eq!(needs(Method::POST, "/upload/mask"), Some(Scope::Submit));
    }
}

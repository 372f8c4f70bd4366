//! [`V2Route`]: which paths Comfy API v2 has.

use hyper::Method;

use crate::server::proxy::path::ComfyPath;

/// What a request for Comfy API v2 asks for. Parts of paths are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server::proxy) enum V2Route<'a> {
    Submit,
    List,
    Job(&'a str),
    Workflow(&'a str),
    Events(&'a str),
    Cancel(&'a str),
    Upload,
    FromHash,
    ByHash(&'a str),
    Asset(&'a str),
    DeleteAsset(&'a str),
    Content(&'a str),
    /// The route takes these methods alone.
    WrongMethod(&'static str),
    /// There is no such route.
    Unknown,
}

impl<'a> V2Route<'a> {
    /// `None` for a path of another API: extensions of ComfyUI, too, have routes below `/api/v2`.
    pub(in crate::server::proxy) fn find(method: &Method, path: &'a ComfyPath) -> Option<Self> {
        let segments = path.segments();
        let ["v2", collection, below @ ..] = segments.as_slice() else {
            return None;
        };
        if !path.is_api() {
            return None;
        }
        let is_get = [Method::GET, Method::HEAD].contains(method);
        let is_post = *method == Method::POST;
        let (is_taken, route, methods) = match (*collection, below) {
            ("jobs", []) if is_post => (true, Self::Submit, ""),
            ("jobs", []) => (is_get, Self::List, "GET, HEAD, POST"),
            ("jobs", [id]) => (is_get, Self::Job(id), "GET, HEAD"),
            ("jobs", [id, "workflow"]) => (is_get, Self::Workflow(id), "GET, HEAD"),
            ("jobs", [id, "events"]) => (is_get, Self::Events(id), "GET, HEAD"),
            ("jobs", [id, "cancel"]) => (is_post, Self::Cancel(id), "POST"),
            ("assets", []) => (is_post, Self::Upload, "POST"),
            ("assets", ["from-hash"]) => (is_post, Self::FromHash, "POST"),
            ("assets", ["by-hash", hash]) => (is_get, Self::ByHash(hash), "GET, HEAD"),
            ("assets", [id]) if *method == Method::DELETE => (true, Self::DeleteAsset(id), ""),
            ("assets", [id]) => (is_get, Self::Asset(id), "GET, HEAD, DELETE"),
            ("assets", [id, "content"]) => (is_get, Self::Content(id), "GET, HEAD"),
            ("jobs" | "assets", _) => (true, Self::Unknown, ""),
            _ => return None,
        };
        Some(if is_taken {
            route
        } else {
            Self::WrongMethod(methods)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_jobs_and_assets_are_of_the_api() {
        for (method, path, expected) in [
            (Method::POST, "/api/v2/jobs", Some(V2Route::Submit)),
            (Method::GET, "/api/v2/jobs", Some(V2Route::List)),
            (Method::GET, "/api/v2/jobs/a%2Fb", Some(V2Route::Job("a/b"))),
            (
                Method::GET,
                "/api/v2/jobs/a/cancel",
                Some(V2Route::WrongMethod("POST")),
            ),
            (Method::GET, "/api/v2/jobs/a/b", Some(V2Route::Unknown)),
            (Method::GET, "/v2/jobs", None),
            (Method::GET, "/api/v2/userdata", None),
            (Method::GET, "/api/v2", None),
        ] {
            let path = ComfyPath::parse(path).unwrap();
            assert_eq!(V2Route::find(&method, &path), expected, "{path:?}");
        }
    }
}

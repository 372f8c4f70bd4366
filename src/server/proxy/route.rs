//! [`ComfyRoute`]: what is answered for all servers at once.

use hyper::Method;

use crate::auth::Scope;

/// What is answered for all servers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComfyRoute {
    Socket,
    Prompt,
    Length,
    /// Whatever any server can answer.
    Other,
}

impl ComfyRoute {
    /// Each path is there with and without `/api` before it.
    pub(super) fn find(method: &Method, path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let segments = match segments.split_first() {
            Some((&"api", rest)) => rest,
            _ => segments.as_slice(),
        };
        let is_get = [Method::GET, Method::HEAD].contains(method);
        let is_post = *method == Method::POST;
        match segments {
            ["ws"] if is_get => Self::Socket,
            ["prompt"] if is_get => Self::Length,
            ["prompt"] if is_post => Self::Prompt,
            _ => Self::Other,
        }
    }

    /// What its caller needs; `None` where the route itself checks that.
    pub(super) fn scope(self, method: &Method) -> Option<Scope> {
        match self {
            Self::Socket | Self::Prompt => None,
            // What the routes of extensions do is not known: they may change the server.
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
        let find = |method: Method, path: &'static str| ComfyRoute::find(&method, path);
        assert_eq!(find(Method::GET, "/prompt"), ComfyRoute::Length);
        assert_eq!(find(Method::POST, "/api/prompt"), ComfyRoute::Prompt);
        assert_eq!(find(Method::DELETE, "/prompt"), ComfyRoute::Other);
        assert_eq!(find(Method::GET, "/api"), ComfyRoute::Other);
    }

    #[test]
    fn what_changes_something_needs_more_than_to_read() {
        let needs = |method: Method, path| ComfyRoute::find(&method, path).scope(&method);
        assert_eq!(needs(Method::POST, "/free"), Some(Scope::Submit));
        assert_eq!(needs(Method::GET, "/free"), Some(Scope::Subscribe));
    }
}

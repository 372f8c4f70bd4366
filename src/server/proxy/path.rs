//! [`ComfyPath`]: a path as ComfyUI reads it.

use hyper::StatusCode;
use percent_encoding::percent_decode_str;

use crate::server::error::ApiError;

/// The first segment of a path, which may be left out.
const API: &str = "api";

/// The segments of a path, decoded as ComfyUI decodes them: `/%71ueue` is `/queue`. An encoded slash is a part of its segment.
#[derive(Debug)]
pub(super) struct ComfyPath {
    is_api: bool,
    segments: Vec<String>,
}

impl ComfyPath {
    /// Reads a percent-encoded path, and refuses those that a server may take for another path than the relay does.
    pub(super) fn parse(path: &str) -> Result<Self, ApiError> {
        let mut parts: Vec<&str> = path.split('/').collect();
        let last = parts.pop().unwrap_or_default();
        // A proxy before ComfyUI may merge slashes.
        parts.retain(|part| !part.is_empty());
        let mut segments: Vec<String> = parts.iter().map(|part| decoded(part)).collect();
        if !last.is_empty() || !segments.is_empty() {
            segments.push(decoded(last));
        }
        if segments.iter().any(|segment| is_ambiguous(segment)) {
            return Err(refused("a path has no . or .. segments and no backslashes"));
        }
        let is_api = segments.first().is_some_and(|first| first == API);
        if is_api {
            segments.remove(0);
            if segments.first().is_some_and(|first| first == API) {
                return Err(refused("a path begins with /api once"));
            }
        }
        Ok(Self { is_api, segments })
    }

    /// Whether it begins with `/api`.
    pub(super) fn is_api(&self) -> bool {
        self.is_api
    }

    /// Its segments after `/api`.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// Whether a segment can lead out of its folder, also where a proxy decodes its slashes.
fn is_ambiguous(segment: &str) -> bool {
    let is_dots = |part: &str| [".", ".."].contains(&part);
    segment.contains('\\') || segment.split('/').any(is_dots)
}

fn refused(message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (path, is_api, segments) in [
            ("/", false, &[] as &[&str]),
            ("/queue", false, &["queue"]),
            ("/%71ueue", false, &["queue"]),
            ("/%61pi/%70rompt", true, &["prompt"]),
            ("/api", true, &[]),
            ("/api/userdata/a%2Fb.json", true, &["userdata", "a/b.json"]),
            ("/api%2Fqueue", false, &["api/queue"]),
            ("/%2571ueue", false, &["%71ueue"]),
            ("//api//queue", true, &["queue"]),
            ("/queue/", false, &["queue", ""]),
            ("/userdata/.index.json", false, &["userdata", ".index.json"]),
            ("/a/...", false, &["a", "..."]),
        ] {
            let found = ComfyPath::parse(path).unwrap();
            assert_eq!(
                (found.is_api(), found.segments().as_slice()),
                (is_api, segments),
                "{path}"
            );
        }
    }

    #[test]
    fn what_a_server_may_take_for_another_path_is_refused() {
        for path in [
            "/x/../queue",
            "/./prompt",
            "/x/%2e%2E/queue",
            "/%2e/prompt",
            "/..",
            "/x/.",
            "/userdata/..%2Fqueue",
            "/x\\..\\queue",
            "/x%5Cqueue",
            "/api/api/jobs/a/cancel",
            "/api/%61pi/jobs",
            "/api//api/jobs",
        ] {
            let refused = ComfyPath::parse(path).unwrap_err();
            assert_eq!(refused.status(), 400, "{path}");
        }
    }
}

/// The first line of a Python traceback.
const TRACEBACK: &str = "Traceback (most recent call last)";

/// How the keys of ComfyUI's accounts begin.
const KEY: &str = "comfyui-";

/// The shortest secret behind that, in characters: the names of packages are shorter.
const MIN_SECRET: usize = 32;

/// Removes what must not be published: Python tracebacks, the folders of paths, the keys of ComfyUI's accounts, and the
/// queries of URLs, which may contain keys. The last name of a path stays, because it helps.
pub fn redact(text: &str) -> String {
    let text = text.split(TRACEBACK).next().unwrap_or_default();
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    // The character before, which decides whether a path can begin here.
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        let begins = before.is_none_or(is_border);
        if let Some(length) = begins.then(|| path(rest, before)).flatten() {
            let path = &rest[..length];
            let name = path.trim_end_matches(['/', '\\']);
            redacted.push_str(name.rsplit(['/', '\\']).next().unwrap_or_default());
            before = path.chars().next_back();
            rest = &rest[length..];
        } else if let Some(length) = begins.then(|| url(rest)).flatten() {
            let url = &rest[..length];
            redacted.push_str(url.split('?').next().unwrap_or_default());
            before = url.chars().next_back();
            rest = &rest[length..];
        } else if let Some(length) = begins.then(|| key(rest)).flatten() {
            redacted.push_str(KEY);
            redacted.push_str("***");
            before = Some('*');
            rest = &rest[length..];
        } else {
            redacted.push(next);
            before = Some(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    redacted
}

/// The length of the path that a text begins with, in bytes; `None` if it is no path with a folder.
fn path(text: &str, before: Option<char>) -> Option<usize> {
    let mut letters = text.chars();
    let first = letters.next()?;
    let is_drive = first.is_ascii_alphabetic()
        && letters.next() == Some(':')
        && letters.next().is_some_and(|c| matches!(c, '/' | '\\'));
    let is_home = text.starts_with("~/");
    let is_share = text.starts_with("\\\\");
    if !(first == '/' || is_drive || is_home || is_share) {
        return None;
    }
    // A quoted path may contain spaces.
    let quote = before.filter(|c| matches!(c, '\'' | '"' | '`'));
    let end = match quote {
        Some(quote) => text.find(quote),
        None => text.find(|c: char| c.is_whitespace() || (is_border(c) && c != ':') || c == ')'),
    };
    let length = end.unwrap_or(text.len());
    let length = text[..length].trim_end_matches([':', '.', ';']).len();
    let folders = text[..length].matches(['/', '\\']).count();
    // A single slash can also mean "or" or "per".
    (folders > 1).then_some(length)
}

/// The length of the URL that a text begins with, in bytes.
fn url(text: &str) -> Option<usize> {
    let scheme = text.find(|c: char| !c.is_ascii_alphanumeric())?;
    if scheme == 0 || !text[scheme..].starts_with("://") {
        return None;
    }
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '>' | ')'));
    Some(end.unwrap_or(text.len()))
}

/// The length of the account key that a text begins with, in bytes; `None` if it is none.
fn key(text: &str) -> Option<usize> {
    let secret = text.strip_prefix(KEY)?;
    let is_secret = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let end = secret.find(|c| !is_secret(c)).unwrap_or(secret.len());
    (end >= MIN_SECRET).then_some(KEY.len() + end)
}

/// Whether a path may follow this character.
fn is_border(c: char) -> bool {
    let is_mark = matches!(
        c,
        '\'' | '"' | '`' | '(' | '[' | '{' | '<' | '=' | ',' | ':' | '>'
    );
    c.is_whitespace() || is_mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_a_path_stays() {
        for (text, redacted) in [
            (
                "[Errno 2] No such file or directory: '/home/ada/Comfy UI/input/cat.png'",
                "[Errno 2] No such file or directory: 'cat.png'",
            ),
            (
                "cannot open /srv/models/x.safetensors: denied",
                "cannot open x.safetensors: denied",
            ),
            (
                "File \"/opt/comfy/nodes.py\", line 12",
                "File \"nodes.py\", line 12",
            ),
            ("path=/a/b/c.png,/d/e.png", "path=c.png,e.png"),
            ("C:\\Users\\ada\\comfy\\x.png is gone", "x.png is gone"),
            ("at D:/comfy/models/x.ckpt.", "at x.ckpt."),
            ("see ~/comfy/input/x.png", "see x.png"),
            ("\\\\nas\\share\\x.png", "x.png"),
            ("in /var/lib/comfy/", "in comfy"),
        ] {
            assert_eq!(redact(text), redacted);
        }
    }

    #[test]
    fn texts_without_paths_stay() {
        for text in [
            "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)",
            "and/or 10 it/s, 3 / 4, a/b/c",
            "/ is a slash, as is /x",
            "ratio 16:9 at 12:30",
            "KSampler: step 3/20",
            "http://127.0.0.1:8188/view",
            "übel: ß / ä",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn urls_lose_their_query() {
        assert_eq!(
            redact("403 for url: https://api.example/v1/x?key=SECRET (retry)"),
            "403 for url: https://api.example/v1/x (retry)"
        );
    }

    #[test]
    fn keys_of_accounts_are_masked() {
        let secret = "0123456789abcdef".repeat(4);
        for (text, redacted) in [
            (
                format!("Unauthorized: comfyui-{secret} is not valid"),
                "Unauthorized: comfyui-*** is not valid",
            ),
            (format!("key='comfyui-{secret}'"), "key='comfyui-***'"),
            (
                "install comfyui-frontend-package".to_owned(),
                "install comfyui-frontend-package",
            ),
        ] {
            assert_eq!(redact(&text), redacted);
        }
    }

    #[test]
    fn tracebacks_are_cut_off() {
        let raised = "it failed\n\nTraceback (most recent call last):\n  File \"x.py\", line 1";
        assert_eq!(redact(raised).trim(), "it failed");
    }
}

/// The machine that a backend runs on: its name without port and path.
pub(super) fn host(backend: &str) -> &str {
    let authority = backend
        .split_once('/')
        .map_or(backend, |(before, _)| before);
    match authority.rsplit_once(':') {
        // An IPv6 address such as [::1] has colons of its own.
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn all_ports_of_a_host_are_one_machine() {
        assert_eq!(host("box:8188"), "box");
        assert_eq!(host("box:8188/comfy"), "box");
        assert_eq!(host("box/comfy:2"), "box");
        assert_eq!(host("[::1]:8188"), "[::1]");
        assert_eq!(host("[::1]"), "[::1]");
    }
}

use super::*;

fn request(origin: Option<&str>, host: &str) -> Request<()> {
    let mut request = Request::builder().method("POST").header("host", host);
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.body(()).unwrap()
}

fn policy(origins: Origins, listen: &str) -> OriginPolicy {
    OriginPolicy::new(origins, listen.parse().unwrap(), true)
}

/// The address of a relay whose clients know it by this host.
fn address(host: &str) -> PublicAddress {
    let url = Url::parse(&format!("http://{host}/")).unwrap();
    PublicAddress::of_url(&url).unwrap()
}

fn allows(policy: &OriginPolicy, origin: Option<&str>, host: &str) -> bool {
    policy.allows(&request(origin, host), &address("elsewhere.example"))
}

#[test]
fn the_relays_own_pages_are_recognised() {
    let policy = policy(Origins::Same, "0.0.0.0:8328");
    for (origin, host, is_allowed) in [
        (None, "relay.example", true),
        (Some("http://relay.example"), "relay.example", true),
        (Some("http://relay.example"), "relay.example:80", true),
        (Some("https://relay.example"), "relay.example", true),
        (
            Some("http://Relay.Example:8328"),
            "relay.example:8328",
            true,
        ),
        (Some("http://[::1]:8328"), "[::1]:8328", true),
        (
            Some("http://relay.example:8329"),
            "relay.example:8328",
            false,
        ),
        (Some("http://evil.example"), "relay.example", false),
        (
            Some("http://relay.example.evil.example"),
            "relay.example",
            false,
        ),
        (
            Some("http://evil.example@relay.example"),
            "relay.example",
            true,
        ),
        (Some("http://relay.example"), "x@relay.example", false),
        (Some("null"), "relay.example", false),
        (Some("file://"), "relay.example", false),
        (Some(""), "relay.example", false),
        (Some("http://relay.example"), "", false),
    ] {
        let found = allows(&policy, origin, host);
        assert_eq!(found, is_allowed, "{origin:?} at {host}");
    }
}

#[test]
fn a_listed_page_is_recognised_by_its_origin() {
    let listed = vec![PageOrigin::Site(Url::parse("https://app.example").unwrap())];
    let listed = policy(Origins::Listed(listed), "127.0.0.1:1");
    for (origin, is_allowed) in [
        ("https://app.example", true),
        ("https://app.example:443", true),
        ("http://app.example", false),
        ("https://x.app.example", false),
        ("http://localhost:1", true),
        ("null", false),
    ] {
        let found = allows(&listed, Some(origin), "localhost:1");
        assert_eq!(found, is_allowed, "{origin}");
    }
    let any = policy(Origins::Any, "127.0.0.1:1");
    assert!(allows(&any, Some("https://evil.example"), "localhost:1"));
    let null = policy(Origins::Listed(vec![PageOrigin::Null]), "127.0.0.1:1");
    assert!(allows(&null, Some("null"), "localhost:1"));
    assert!(!allows(&null, Some("https://evil.example"), "localhost:1"));
}

#[test]
fn pages_of_this_machine_are_let_in_on_loopback_without_tokens() {
    for (listen, needs_token, origin, is_allowed) in [
        ("127.0.0.1:8328", false, "http://localhost:5173", true),
        ("127.0.0.1:8328", false, "http://127.0.0.1:8080", true),
        ("[::1]:8328", false, "http://[::1]:5173", true),
        ("127.0.0.1:8328", false, "https://app.localhost:5173", true),
        ("127.0.0.1:8328", false, "http://evil.example:5173", false),
        (
            "127.0.0.1:8328",
            false,
            "http://localhost.evil.example",
            false,
        ),
        ("127.0.0.1:8328", false, "ftp://localhost", false),
        ("127.0.0.1:8328", false, "null", false),
        ("127.0.0.1:8328", true, "http://localhost:5173", false),
        ("0.0.0.0:8328", false, "http://localhost:5173", false),
    ] {
        let listen = listen.parse().unwrap();
        let policy = OriginPolicy::new(Origins::Same, listen, needs_token);
        let found = allows(&policy, Some(origin), "127.0.0.1:8328");
        assert_eq!(found, is_allowed, "{origin} at {listen}, {needs_token}");
    }
}

#[test]
fn what_a_page_of_another_site_makes_a_browser_send_is_refused() {
    let own = Some("http://relay.example");
    let listed = Some("https://app.example");
    let sites = vec![PageOrigin::Site(Url::parse("https://app.example").unwrap())];
    let policy = policy(Origins::Listed(sites), "0.0.0.0:8328");
    for (site, origin, is_allowed) in [
        (None, None, true),
        (Some("none"), None, true),
        (Some("same-origin"), None, true),
        (Some("cross-site"), None, false),
        (Some("cross-site"), Some("https://evil.example"), false),
        (Some("cross-site"), listed, true),
        (Some("cross-site"), own, true),
    ] {
        let mut request = request(origin, "relay.example");
        *request.method_mut() = Method::GET;
        if let Some(site) = site {
            let site = HeaderValue::from_static(site);
            request.headers_mut().insert(SEC_FETCH_SITE, site);
        }
        let found = policy.check_site(&request, &address("elsewhere.example"));
        assert_eq!(found.is_ok(), is_allowed, "{site:?} from {origin:?}");
    }
}

#[test]
fn a_page_behind_a_proxy_is_recognised_by_the_relays_public_address() {
    let policy = policy(Origins::Same, "127.0.0.1:8328");
    for (origin, is_allowed) in [
        ("https://studio.example", true),
        ("https://evil.example", false),
    ] {
        let request = request(Some(origin), "127.0.0.1:8328");
        let found = policy.allows(&request, &address("studio.example"));
        assert_eq!(found, is_allowed, "{origin}");
    }
}

#[test]
fn a_foreign_name_that_resolves_to_loopback_is_refused() {
    for (listen, host, is_ours) in [
        ("127.0.0.1:8328", "localhost:8328", true),
        ("127.0.0.1:8328", "LOCALHOST", true),
        ("127.0.0.1:8328", "relay.localhost:8328", true),
        ("127.0.0.1:8328", "127.0.0.1:8328", true),
        ("127.0.0.1:8328", "[::1]:8328", true),
        ("127.0.0.1:8328", "evil.example:8328", false),
        ("127.0.0.1:8328", "localhost.evil.example", false),
        ("127.0.0.1:8328", "192.0.2.1", false),
        ("127.0.0.1:8328", "x@localhost", false),
        ("127.0.0.1:8328", "", false),
        ("0.0.0.0:8328", "relay.example:8328", true),
    ] {
        let policy = policy(Origins::Same, listen);
        let found = policy.check_host(&request(None, host), None).is_ok();
        assert_eq!(found, is_ours, "{host} at {listen}");
    }
    let policy = policy(Origins::Same, "127.0.0.1:8328");
    let named = request(None, "Studio.Example");
    assert!(
        policy
            .check_host(&named, Some(&address("studio.example")))
            .is_ok()
    );
}

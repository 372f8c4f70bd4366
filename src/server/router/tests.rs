use std::collections::BTreeSet;

use super::operated::OPERATIONS;
use super::*;
use crate::server::contract::{asyncapi, openapi};

/// What a request can do: a method, and a path as the table has it.
type Served = BTreeSet<(String, String)>;

/// The methods that only ask about others.
const IMPLIED: [&str; 2] = ["HEAD", "OPTIONS"];

/// All paths of the API.
fn paths() -> Vec<String> {
    let operated = OPERATIONS.map(|(verb, _)| format!("/api/anime/backends/{{name}}/{verb}"));
    let paths = PATHS.iter().map(|&path| path.to_owned());
    paths.chain(operated).collect()
}

fn is_socket(path: &str) -> bool {
    path.starts_with("/ws/")
}

fn find(path: &str) -> Route<'_> {
    Route::find(path).unwrap_or_else(|| panic!("there is no route {path}"))
}

#[test]
fn what_is_served_is_documented_and_nothing_else() {
    let mut served = Served::new();
    for path in paths().into_iter().filter(|path| !is_socket(path)) {
        let methods = find(&path).methods().split(", ");
        let methods = methods.filter(|method| !IMPLIED.contains(method));
        served.extend(methods.map(|method| (method.to_owned(), path.clone())));
    }
    let endpoints = openapi::endpoints();
    let endpoints = endpoints.iter().flat_map(|(_, endpoints)| endpoints);
    let documented: Served = endpoints
        .map(|it| (it.method().to_uppercase(), it.path().to_owned()))
        .collect();
    assert!(served.len() > 30, "{served:?}");
    let differing: Vec<_> = served.symmetric_difference(&documented).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

#[test]
fn the_parameters_of_a_query_are_documented_and_no_others() {
    let endpoints = openapi::endpoints();
    for endpoint in endpoints.iter().flat_map(|(_, endpoints)| endpoints) {
        let method = Method::from_bytes(endpoint.method().to_uppercase().as_bytes()).unwrap();
        let known = find(endpoint.path()).parameters(&method).unwrap();
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let documented: BTreeSet<&str> = endpoint.query_parameters().into_iter().collect();
        assert_eq!(known, documented, "{method} {}", endpoint.path());
    }
}

#[test]
fn the_channels_of_the_relay_are_its_sockets_and_its_event_streams() {
    let document = asyncapi::document();
    let channels = document["channels"].as_object().unwrap().values();
    let of_relay = channels.filter(|channel| {
        let server = channel["servers"][0]["$ref"].as_str().unwrap();
        ["#/servers/sockets", "#/servers/streams"].contains(&server)
    });
    let documented: BTreeSet<String> = of_relay
        .map(|channel| channel["address"].as_str().unwrap().to_owned())
        .collect();
    let served = paths().into_iter();
    let mut served: BTreeSet<String> = served
        .filter(|path| is_socket(path) || path.ends_with("/events"))
        .collect();
    // The id of a group is that of a job, to the router.
    served.insert("/ws/group:{name}".to_owned());
    assert_eq!(documented, served);
}

//! The rules of `docs/architecture.md`: which module imports which, and how long things may be.

mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use imports::Imports;
use source::Source;

/// The modules from the ground up. A module imports from lower floors only, never from its own or a higher
/// one.
const FLOORS: [&[&str]; 9] = [
    &[
        "config",
        "connector",
        "python_json",
        "watched_file",
        "wire_schema",
    ],
    &["job", "recording"],
    &["estimate", "placement"],
    &[
        "auth", "broker", "comfy", "hub", "replay", "store", "webhook", "workflow",
    ],
    &["relay"],
    &["session"],
    &["server"],
    &["evaluation"],
    &["cli"],
];

/// The most lines of a source file, unit tests not counted.
const MAX_FILE_LINES: usize = 400;

/// The most lines of a function, from its signature to its closing brace.
const MAX_FUNCTION_LINES: usize = 70;

/// Groups of files that import each other, directly or through others.
fn circles(sources: &[Source]) -> Vec<String> {
    let imports = Imports::of(sources);
    let reachable: BTreeMap<&str, BTreeSet<&str>> = imports
        .files()
        .map(|file| (file, imports.reachable_from(file)))
        .collect();
    let mut circles = BTreeSet::new();
    for (file, targets) in &reachable {
        let in_circle = |other: &&&str| reachable[**other].contains(file);
        let circle: BTreeSet<&str> = targets.iter().filter(in_circle).copied().collect();
        if !circle.is_empty() {
            let files: Vec<&str> = circle.iter().copied().collect();
            let mut description = format!("circle: {}", files.join(" "));
            for (from, to) in imports.edges() {
                if circle.contains(from) && circle.contains(to) {
                    let path = imports.path(from, to);
                    description += &format!("\n    {from} imports {to}: {path}");
                }
            }
            circles.insert(description);
        }
    }
    circles.into_iter().collect()
}

/// Imports from the same or a higher floor.
fn imports_against_the_floors(sources: &[Source]) -> Vec<String> {
    let imports = Imports::of(sources);
    let mut found = Vec::new();
    for (from, to) in imports.edges() {
        let (importer, imported) = (top_module(from), top_module(to));
        if importer == imported || importer == "main" {
            continue;
        }
        let direction = match floor(importer).cmp(&floor(imported)) {
            std::cmp::Ordering::Greater => continue,
            std::cmp::Ordering::Equal => "sideways",
            std::cmp::Ordering::Less => "upwards",
        };
        found.push(format!("{direction}: {from} imports {to}"));
    }
    found
}

/// The module directly below the root that a file belongs to.
fn top_module(file: &str) -> &str {
    let top = file.split('/').next().unwrap_or(file);
    top.trim_end_matches(".rs")
}

fn floor(module: &str) -> usize {
    let floor = FLOORS.iter().position(|floor| floor.contains(&module));
    floor.unwrap_or_else(|| panic!("{module} stands on no floor: add it to FLOORS"))
}

/// Names of types that are defined more than once.
fn duplicate_type_names(sources: &[Source]) -> Vec<String> {
    let mut files: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for source in sources {
        for name in source.type_names() {
            files.entry(name).or_default().push(&source.file);
        }
    }
    files.retain(|_, files| files.len() > 1);
    let line = |(name, files): (String, Vec<&str>)| format!("{name}: {}", files.join(" "));
    files.into_iter().map(line).collect()
}

fn long_files(sources: &[Source]) -> Vec<String> {
    let lengths = sources.iter().map(|source| (source, source.lines()));
    let long = lengths.filter(|(_, lines)| *lines > MAX_FILE_LINES);
    long.map(|(source, lines)| format!("{}: {lines} lines", source.file))
        .collect()
}

fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (name, lines) in source.functions() {
            if lines > MAX_FUNCTION_LINES {
                found.push(format!("{} {name}: {lines} lines", source.file));
            }
        }
    }
    found
}

/// The sources of the program.
fn program() -> Vec<Source> {
    let sources = Source::read_all("src");
    assert!(sources.len() > 100, "only {} sources", sources.len());
    sources
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    assert_none(&circles(&program()));
}

#[test]
fn modules_import_from_lower_floors_only() {
    assert_none(&imports_against_the_floors(&program()));
}

#[test]
fn every_type_has_a_name_of_its_own() {
    assert_none(&duplicate_type_names(&program()));
}

#[test]
fn no_source_file_is_too_long() {
    assert_none(&long_files(&program()));
}

#[test]
fn no_function_is_too_long() {
    assert_none(&long_functions(&program()));
}

/// The first line of each circle: its files.
fn files_of(circles: &[String]) -> Vec<&str> {
    let lines = circles.iter().map(|circle| circle.lines().next().unwrap());
    lines.collect()
}

/// Made sources, each with its file below `src`.
fn made(files: &[(&str, &str)]) -> Vec<Source> {
    let parse = |(file, text): &(&str, &str)| Source::parse(file, text);
    files.iter().map(parse).collect()
}

#[test]
fn a_circle_between_a_module_and_its_child_is_found() {
    let parent = (
        "hub.rs",
        "mod topic; use topic::Topic; pub const MAX: u8 = 1;",
    );
    let children = [
        "use super::MAX; pub struct Topic;",
        "pub struct Topic { size: [u8; super::MAX as usize] }",
        "pub struct Topic; fn f() { assert_eq!(super::MAX, crate::hub::MAX); }",
        "pub struct Topic; fn f() { use crate::hub as parent; parent::MAX; }",
        "pub struct Topic; #[arg(default_value_t = super::MAX)] struct Args;",
        "pub struct Topic; #[serde(with = \"super::MAX\")] struct Args;",
    ];
    for child in children {
        let sources = made(&[parent, ("hub/topic.rs", child)]);
        assert_eq!(
            files_of(&circles(&sources)),
            ["circle: hub.rs hub/topic.rs"],
            "{child}"
        );
    }
}

#[test]
fn a_circle_through_a_reexport_is_found() {
    let sources = made(&[
        ("hub.rs", "mod a; mod b; pub use a::A; pub(crate) use b::*;"),
        ("hub/a.rs", "use super::B; pub struct A;"),
        ("hub/b.rs", "pub struct B { a: Option<Box<crate::hub::A>> }"),
    ]);
    assert_eq!(files_of(&circles(&sources)), ["circle: hub/a.rs hub/b.rs"]);
}

#[test]
fn a_circle_of_three_modules_is_found_once() {
    let sources = made(&[
        ("lib.rs", "pub mod auth; pub mod hub; pub mod store;"),
        ("auth.rs", "use crate::hub::Hub; pub struct Auth;"),
        ("hub.rs", "use crate::store::{self, Store}; pub struct Hub;"),
        (
            "store.rs",
            "use crate::auth::Auth as Checked; pub struct Store;",
        ),
    ]);
    assert_eq!(
        files_of(&circles(&sources)),
        ["circle: auth.rs hub.rs store.rs"]
    );
}

#[test]
fn a_parent_that_uses_what_it_reexports_imports_it() {
    let child = ("hub/topic.rs", "use super::MAX; pub struct Topic;");
    let unused = "mod topic; pub use topic::Topic; pub const MAX: u8 = 1;";
    assert_none(&circles(&made(&[("hub.rs", unused), child])));
    let used = format!("{unused} pub struct Hub {{ topics: Vec<Topic> }}");
    let sources = made(&[("hub.rs", &used), child]);
    assert_eq!(
        files_of(&circles(&sources)),
        ["circle: hub.rs hub/topic.rs"]
    );
}

#[test]
fn unit_tests_may_import_everything() {
    let sources = made(&[
        (
            "hub.rs",
            "use crate::job::Job; pub struct Hub; #[cfg(test)] mod tests { use crate::relay::Relay; }",
        ),
        (
            "job.rs",
            "pub struct Job; #[cfg(test)] use crate::hub::Hub;",
        ),
        ("relay.rs", "use crate::hub::Hub; pub struct Relay;"),
        ("hub/tests.rs", "use crate::relay::Relay;"),
    ]);
    assert_none(&circles(&sources));
    assert_none(&imports_against_the_floors(&sources));
}

#[test]
fn an_import_upwards_and_one_sideways_are_found() {
    let sources = made(&[
        ("main.rs", "use comfy_relay::cli::run;"),
        ("cli.rs", "pub fn run() { crate::server::run() }"),
        ("server.rs", "pub fn run() {}"),
        ("hub.rs", "mod topic; pub struct Hub;"),
        (
            "hub/topic.rs",
            "fn f() { crate::server::run(); crate::store::open(); }",
        ),
        ("store.rs", "pub fn open() {}"),
    ]);
    assert_eq!(
        imports_against_the_floors(&sources),
        [
            "upwards: hub/topic.rs imports server.rs",
            "sideways: hub/topic.rs imports store.rs"
        ]
    );
}

#[test]
#[should_panic(expected = "kitchen stands on no floor")]
fn a_module_without_a_floor_is_found() {
    let sources = made(&[
        ("kitchen.rs", "use crate::job::Job;"),
        ("job.rs", "pub struct Job;"),
    ]);
    imports_against_the_floors(&sources);
}

#[test]
fn a_type_name_that_is_used_twice_is_found() {
    let sources = made(&[
        ("hub.rs", "enum Event {} mod inner { struct Topic; }"),
        ("job.rs", "pub struct Event; type Topic = u8; fn event() {}"),
        (
            "store.rs",
            "#[cfg(test)] struct Event; impl Iterator for Row { type Item = u8; }",
        ),
        ("comfy.rs", "trait Item {}"),
    ]);
    assert_eq!(
        duplicate_type_names(&sources),
        ["Event: hub.rs job.rs", "Topic: hub.rs job.rs"]
    );
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let body = "    work();\n".repeat(MAX_FUNCTION_LINES - 2);
    let longest = format!("fn longest() {{\n{body}}}\n");
    assert_none(&long_functions(&made(&[("hub.rs", &longest)])));
    let too_long = format!("impl Hub {{\n/// Doc.\nfn run(\n&self) {{\n{body}}}\n}}\n");
    assert_eq!(
        long_functions(&made(&[("hub.rs", &too_long)])),
        ["hub.rs run: 71 lines"]
    );
    let tests = format!(
        "#[cfg(test)]\nmod tests {{\n{}}}\n",
        "\n".repeat(MAX_FILE_LINES)
    );
    let longest = "//\n".repeat(MAX_FILE_LINES);
    let fits = format!("{longest}{tests}");
    assert_none(&long_files(&made(&[("hub.rs", &fits)])));
    let too_long = format!("{longest}//\n{tests}");
    assert_eq!(
        long_files(&made(&[("hub.rs", &too_long)])),
        ["hub.rs: 401 lines"]
    );
}

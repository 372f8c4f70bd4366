//! Who may import whom.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules by floor, from the ground up. Only within floor 0 may a later one read an earlier one.
const FLOORS: [&[&str]; 8] = [
    &["config", "watched_file"],
    &["job", "estimate", "recording"],
    &["auth", "comfy", "hub", "store", "workflow", "replay"],
    &["relay"],
    &["session"],
    &["server"],
    &["evaluation"],
    &["cli"],
];

/// Where a module stands: its floor, and its place on it.
fn place(module: &str) -> (usize, usize) {
    let find = |(floor, modules): (usize, &&[&str])| {
        let place = modules.iter().position(|name| *name == module)?;
        Some((floor, place))
    };
    let mut floors = FLOORS.iter().enumerate();
    floors
        .find_map(find)
        .unwrap_or_else(|| panic!("{module} stands on no floor"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn modules_import_from_floors_below_only() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    assert!(files.len() > 30, "only {} sources", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let own = file
            .strip_prefix("src")
            .unwrap()
            .components()
            .next()
            .unwrap();
        let own = own
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if own == "lib" || own == "main" || file.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // Unit tests may look further.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for import in code.split("crate::").skip(1) {
            let end = import
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap();
            let module = &import[..end];
            let (own_place, place) = (place(&own), place(module));
            let is_floor_zero = own_place.0 == 1 && place.0 == 1;
            let allowed =
                module == own || place.0 < own_place.0 || (is_floor_zero && place.1 < own_place.1);
            if !allowed {
                wrong.push(format!("{} imports {module}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

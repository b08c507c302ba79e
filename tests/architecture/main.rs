//! The walls of the house: which part may use which, and what has no place in pure code. The sources
//! are parsed, so that types count and not words. CONTRIBUTING.md has the table for people.

// All of it is test code: panics are how it fails.
#![cfg(test)]

mod source;
mod walls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use self::source::{Source, module_of, path_of, sources};
use self::walls::{
    ASK_THE_TIME, IMPURE, MAY_NOT_USE, MAY_USE, NOT_PURE, PURE, PURE_ALL_THE_SAME, START_TASKS,
};

fn begins_with(path: &str, part: &str) -> bool {
    path == part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with("::"))
}

/// The longest module that is the beginning of the path.
fn file_of<'a>(sources: &'a [Source], path: &str) -> Option<&'a Source> {
    let fitting =
        sources.iter().filter(|source| !source.module.is_empty() && begins_with(path, &source.module));
    fitting.max_by_key(|source| source.module.len())
}

fn allowed(file: &str) -> &'static [&'static str] {
    let fitting = MAY_USE.iter().filter(|(prefix, _)| file.starts_with(prefix));
    fitting.max_by_key(|(prefix, _)| prefix.len()).unwrap_or_else(|| panic!("{file} is not in the table")).1
}

/// A circle among the edges, if there is one: the names that are left when every name without an edge
/// to one that is left has been taken away, again and again.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut left: BTreeSet<String> = edges.keys().cloned().collect();
    loop {
        let ends: Vec<String> = left.iter().filter(|name| edges[*name].is_disjoint(&left)).cloned().collect();
        if ends.is_empty() {
            return left;
        }
        left.retain(|name| !ends.contains(name));
    }
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for source in sources() {
        for path in &source.ours {
            let may = allowed(&source.name).iter().any(|may| begins_with(path, may));
            // A module by its name alone is used by what is named of it.
            let is_module = MAY_USE.iter().any(|(place, _)| module_of(place.trim_end_matches('/')) == *path);
            if !may && !begins_with(path, &source.module) && (path.contains("::") || !is_module) {
                wrong.push(format!("{} uses {path}", source.name));
            }
        }
        if source.has_globs {
            wrong.push(format!("{} imports with a glob, which hides what it uses", source.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn walls_inside_a_folder_hold() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in &sources {
        let walls = MAY_NOT_USE.iter().filter(|(prefix, _)| source.name.starts_with(prefix));
        for wall in walls.flat_map(|(_, walls)| *walls) {
            let through = source.ours.iter().filter(|path| begins_with(path, wall));
            wrong.extend(through.map(|path| format!("{} uses {path}", source.name)));
            let called = source.calls.iter().filter(|call| {
                let homes = sources.iter().filter(|home| home.methods.contains(call));
                homes.clone().count() == 1 && homes.clone().all(|home| begins_with(&home.module, wall))
            });
            wrong.extend(called.map(|(of, method)| format!("{} calls {of}::{method}", source.name)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let sources = sources();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let used = source.ours.iter().filter_map(|path| file_of(&sources, path));
        // A folder's own file and what it contains are one room.
        let others = used.filter(|used| {
            !begins_with(&used.module, &source.module) && !begins_with(&source.module, &used.module)
        });
        edges.insert(source.name.clone(), others.map(|used| used.name.clone()).collect());
    }
    assert_eq!(circle(&edges), BTreeSet::new());
}

#[test]
fn methods_of_one_type_in_several_files_call_each_other_one_way_only() {
    let sources = sources();
    let spread: BTreeSet<&String> = sources.iter().flat_map(|source| &source.implements).collect();
    for of in spread {
        let home = |method: &str| {
            sources.iter().find(|source| source.methods.contains(&(of.clone(), method.to_owned())))
        };
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for source in sources.iter().filter(|source| source.implements.contains(of)) {
            let called = source.calls.iter().filter(|(caller, _)| caller == of);
            let homes = called.filter_map(|(_, method)| home(method)).filter(|home| home.name != source.name);
            edges.insert(source.name.clone(), homes.map(|home| home.name.clone()).collect());
        }
        assert_eq!(circle(&edges), BTreeSet::new(), "methods of {of}");
    }
}

#[test]
fn a_type_has_its_methods_in_its_own_file_or_folder() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in &sources {
        for of in &source.implements {
            let homes = sources.iter().filter(|home| home.defines.contains(of));
            let fits = homes.clone().any(|home| {
                let folder = home.name.strip_suffix("mod.rs");
                home.name == source.name || folder.is_some_and(|folder| source.name.starts_with(folder))
            });
            // Lifetimes and generics do not matter; a type of others has no home.
            if homes.count() > 0 && !fits {
                wrong.push(format!("{} has methods of {of}", source.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn pure_code_has_no_client_no_clock_no_task_and_no_log() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.is_pure()) {
        let others =
            source.others.iter().filter(|path| !PURE_ALL_THE_SAME.iter().any(|part| begins_with(path, part)));
        let impure = others.filter(|path| IMPURE.iter().any(|part| begins_with(path, part)));
        wrong.extend(impure.map(|path| format!("{} names {path}", source.name)));
        if source.is_async {
            wrong.push(format!("{} is asynchronous", source.name));
        }
        let clock = source.ours.iter().filter(|path| begins_with(path, "clock::now"));
        wrong.extend(clock.map(|path| format!("{} names {path}", source.name)));
        // `clock::Now` is a value like any other.
        let used = source.ours.iter().filter(|path| !begins_with(path, "clock"));
        let not_pure = used.filter_map(|path| file_of(&sources, path)).filter(|used| {
            !used.is_pure() && !begins_with(&source.module, &used.module) && !is_a_folder_of_pure_code(used)
        });
        wrong.extend(not_pure.map(|used| format!("{} uses {}, which is not pure", source.name, used.name)));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// After a file was renamed, a wall that names it would be silent.
#[test]
fn every_place_in_the_tables_exists() {
    let sources = sources();
    let places = MAY_USE.iter().chain(MAY_NOT_USE).map(|(place, _)| *place);
    let lists = [PURE, NOT_PURE, ASK_THE_TIME, START_TASKS];
    let all = places.chain(lists.into_iter().flatten().copied());
    let gone = all.filter(|place| !sources.iter().any(|source| source.name.starts_with(place)));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&str>::new());
    let walls = MAY_NOT_USE.iter().flat_map(|(_, walls)| *walls);
    let unknown = walls.filter(|wall| {
        let (module, name) = wall.rsplit_once("::").unwrap();
        let is_module = sources.iter().any(|source| begins_with(&source.module, wall));
        let has_type = sources.iter().any(|source| source.module == module && source.defines.contains(name));
        !is_module && !has_type
    });
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// A folder's file that only lists what is in the folder.
fn is_a_folder_of_pure_code(source: &Source) -> bool {
    source.name.ends_with("/mod.rs") && source.methods.is_empty() && source.defines.is_empty()
}

#[test]
fn few_files_ask_the_time_and_few_start_tasks() {
    let mut wrong = Vec::new();
    for source in sources() {
        let clocks = ["tokio::time::Instant::now", "std::time::Instant::now", "jiff::Timestamp::now"];
        let reads_a_clock = clocks.iter().any(|clock| source.others.contains(*clock));
        if (source.ours.contains("clock::now") || reads_a_clock) && !source.is_in(ASK_THE_TIME) {
            wrong.push(format!("{} asks the time", source.name));
        }
        let starts = [
            "std::thread::spawn",
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_blocking",
            "tokio::task::JoinSet",
        ];
        if source.others.iter().any(|path| starts.iter().any(|start| begins_with(path, start)))
            && !source.is_in(START_TASKS)
        {
            wrong.push(format!("{} starts tasks", source.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The standard library, then other crates, then ours.
fn import_group(item: &syn::Item) -> Option<u8> {
    let syn::Item::Use(item) = item else { return None };
    let syn::UseTree::Path(path) = &item.tree else { return None };
    Some(match path.ident.to_string().as_str() {
        "std" => 0,
        "crate" | "self" | "super" => 2,
        _ => 1,
    })
}

#[test]
fn imports_stand_in_groups() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for source in sources() {
        let path = root.join(path_of(&source.name));
        let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
        let groups: Vec<u8> = file.items.iter().filter_map(import_group).collect();
        if !groups.is_sorted() {
            wrong.push(source.name);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_table_in_contributing_names_every_part() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contributing = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let missing: Vec<_> = MAY_USE
        .iter()
        .map(|(file, _)| format!("`{}`", path_of(file)))
        .filter(|name| !contributing.contains(name.as_str()))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// What is forbidden would be found: in a source made for that.
#[test]
fn paths_are_found_however_they_are_written() {
    let text = "
        use super::decide::{self, Step};
        use crate::{clock, fleet::record as kept};
        use tokio::time::Instant;
        use tracing::info;
        impl Engine { fn a(&self) { self.b(); Self::c(self); clock::now(); info!(\"x\", kept::Record::new()); } }
        #[cfg(test)]
        mod tests { use crate::cli::Cli; }
    ";
    let source = Source::parse("engine/reconcile/start.rs".to_owned(), text);
    let ours: Vec<&str> = source.ours.iter().map(String::as_str).collect();
    assert_eq!(
        ours,
        [
            "clock",
            "clock::now",
            "engine::reconcile::decide",
            "engine::reconcile::decide::Step",
            "fleet::record",
            "fleet::record::Record::new",
        ]
    );
    assert!(source.others.contains("tokio::time::Instant") && source.others.contains("tracing::info"));
    let calls: Vec<&str> = source.calls.iter().map(|(_, method)| method.as_str()).collect();
    assert_eq!(calls, ["b", "c"]);
}

#[test]
fn the_crate_of_the_api_is_read_as_a_folder_of_ours() {
    let inside = Source::parse("api/device.rs".to_owned(), "use crate::schema; use super::names::GROUP;");
    assert_eq!(
        inside.ours.iter().map(String::as_str).collect::<Vec<_>>(),
        ["api::names::GROUP", "api::schema"]
    );
    let outside = Source::parse("dps/ids.rs".to_owned(), "use dps_operator_api::device::ProvisionedDevice;");
    assert!(outside.ours.contains("api::device::ProvisionedDevice"));
    assert!(sources().iter().any(|source| source.name == "api/lib.rs" && source.module == "api"));
}

#[test]
fn a_circle_would_be_found() {
    let edges = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pairs.iter().map(|(from, to)| ((*from).to_owned(), texts(to))).collect()
    };
    assert!(circle(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])).is_empty());
    assert_eq!(circle(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).len(), 3);
}

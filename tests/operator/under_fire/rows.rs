//! What can go wrong, as `rows.toml` lists it: every row has its tests, and the documentation every row.

use std::process::Command;

use serde::Deserialize;

use crate::world::commands::read;

#[derive(Deserialize)]
struct Rows {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    fault: String,
    promise: String,
    /// Names, or beginnings of names that end with `::`.
    tests: Vec<String>,
}

/// All tests of this program.
fn tests() -> Vec<String> {
    let program = std::env::current_exe().expect("this program has a file");
    let output = Command::new(program).arg("--list").output().expect("it can be run");
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[test]
fn every_fault_has_tests_that_exist_and_every_fault_test_has_its_row_in_the_documentation() {
    let rows: Rows = toml::from_str(&read("tests/operator/under_fire/rows.toml")).expect("it is TOML");
    let (tests, page) = (tests(), read("docs/reliability.md"));
    let is_of =
        |test: &String, name: &String| test == name || (name.ends_with("::") && test.starts_with(name));
    for Row { id, fault, promise, tests: names } in &rows.row {
        for name in names {
            assert!(tests.iter().any(|test| is_of(test, name)), "{id} names {name}, which is no test");
        }
        assert!(!names.is_empty(), "{id} has no test");
        assert!(page.contains(&format!("| {id} | {fault} | {promise} |")), "docs/reliability.md lacks {id}");
    }
    let named: Vec<&String> = rows.row.iter().flat_map(|row| &row.tests).collect();
    let own = |test: &&String| test.starts_with("under_fire::") && !test.starts_with("under_fire::rows::");
    let left: Vec<&String> =
        tests.iter().filter(own).filter(|test| !named.iter().any(|name| is_of(test, name))).collect();
    assert!(left.is_empty(), "of no row: {left:?}");
}

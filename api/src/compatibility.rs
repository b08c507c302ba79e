//! Objects that an earlier version's CRDs admitted are admitted by the present ones: nothing becomes
//! narrower, and no rule on the root is added, which would block every write to stored objects.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

/// Bounds that may only grow, and those that may only shrink.
const UPPER: [&str; 4] = ["maxLength", "maxItems", "maxProperties", "maximum"];
const LOWER: [&str; 4] = ["minLength", "minItems", "minProperties", "minimum"];
/// What has to stay as it is.
const FIXED: [&str; 6] = [
    "type",
    "format",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
];

fn strings(value: &Value, of: &str) -> BTreeSet<String> {
    value[of].as_array().into_iter().flatten().map(Value::to_string).collect()
}

/// A default that has further members, and the earlier ones as they were: it fills in what no earlier object has.
fn is_extended(key: &str, old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    key == "default" && old.iter().all(|(member, value)| new.get(member) == Some(value))
}

/// Adds to `found` everything in which `new` admits less than `old`.
fn find_narrower(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let mut say = |what: &str| found.push(format!("{path}: {what}"));
    for key in FIXED.into_iter().filter(|key| old[key] != new[key] && !is_extended(key, &old[key], &new[key]))
    {
        say(&format!("{key} was {} and is {}", old[key], new[key]));
    }
    let number = |schema: &Value, key: &str| schema[key].as_f64();
    for key in UPPER {
        if number(new, key).is_some_and(|new| number(old, key).is_none_or(|old| new < old)) {
            say(&format!("{key} has shrunk to {}", new[key]));
        }
    }
    for key in LOWER {
        if number(new, key).is_some_and(|new| number(old, key).is_none_or(|old| new > old)) {
            say(&format!("{key} has grown to {}", new[key]));
        }
    }
    if !new["pattern"].is_null() && new["pattern"] != old["pattern"] {
        say(&format!("the pattern has become {}", new["pattern"]));
    }
    for key in strings(new, "required").difference(&strings(old, "required")) {
        say(&format!("{key} has become required"));
    }
    let (before, now) = (strings(old, "enum"), strings(new, "enum"));
    if !now.is_empty() && (before.is_empty() || !before.is_subset(&now)) {
        say("values of the enum are gone");
    }
    let rules = |schema: &Value| -> BTreeSet<String> {
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        rules.filter_map(|rule| rule["rule"].as_str().map(str::to_owned)).collect()
    };
    let before = rules(old);
    let admits_more = |rule: &String| {
        is_wider(rule, &before) || counts_further(rule, &before, old) || concerns_unknown(rule, old)
    };
    for rule in rules(new).difference(&before).filter(|rule| !admits_more(rule)) {
        say(&format!("the rule {rule} is new"));
    }
    for (name, before) in old["properties"].as_object().into_iter().flatten() {
        match new["properties"].get(name) {
            Some(now) => find_narrower(&format!("{path}.{name}"), before, now, found),
            None => found.push(format!("{path}.{name}: it is gone")),
        }
    }
    for part in ["items", "additionalProperties"] {
        if old[part].is_object() {
            find_narrower(&format!("{path}[]"), &old[part], &new[part], found);
        }
    }
}

/// True if the rule is an earlier one with a further way to fulfil it.
fn is_wider(rule: &str, before: &BTreeSet<String>) -> bool {
    // A choice would take the further way for its question.
    let mut plain = before.iter().filter(|earlier| !earlier.contains('?'));
    plain.any(|earlier| rule.ends_with(&format!(" || {earlier}")))
}

/// True if the rule counts members like an earlier one, and further ones that the old schema does not know: no
/// object that it admitted has those.
fn counts_further(rule: &str, before: &BTreeSet<String>, old: &Value) -> bool {
    let counted = |rule: &str| -> Option<BTreeSet<String>> {
        let members = rule.strip_prefix('[')?.strip_suffix("].filter(x, x).size() == 1")?;
        Some(members.split(", ").map(str::to_owned).collect())
    };
    let is_unknown = |member: &String| {
        let name = member.strip_prefix("has(self.").and_then(|rest| rest.strip_suffix(')'));
        name.is_some_and(|name| old["properties"][name].is_null())
    };
    let Some(now) = counted(rule) else { return false };
    let mut earlier = before.iter().filter_map(|rule| counted(rule));
    earlier.any(|earlier| earlier.is_subset(&now) && now.difference(&earlier).all(is_unknown))
}

/// True if the rule asks for something only of objects with members that the old schema does not know.
fn concerns_unknown(rule: &str, old: &Value) -> bool {
    let members = rule.strip_prefix('[').and_then(|rule| rule.split_once("].filter(x, x).size() == 0 || "));
    let is_unknown = |member: &str| {
        let name = member.strip_prefix("has(self.").and_then(|rest| rest.strip_suffix(')'));
        name.is_some_and(|name| old["properties"][name].is_null())
    };
    members.is_some_and(|(members, _)| members.split(", ").all(is_unknown))
}

/// What the new CRD takes away from the old one: names, served versions, and what their schemas admit.
fn incompatible(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["group", "names", "scope"] {
        if old["spec"][part] != new["spec"][part] {
            found.push(format!("{part} has changed"));
        }
    }
    for before in old["spec"]["versions"].as_array().into_iter().flatten() {
        let mut versions = new["spec"]["versions"].as_array().into_iter().flatten();
        let Some(now) = versions.find(|now| now["name"] == before["name"] && now["served"] == true) else {
            found.push(format!("version {} is not served any more", before["name"]));
            continue;
        };
        if !strings(before, "selectableFields").is_subset(&strings(now, "selectableFields")) {
            found.push("selectable fields are gone".to_owned());
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        find_narrower("", &schema(before), &schema(now), &mut found);
    }
    found
}

fn earlier_crds() -> Vec<(String, Value)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let folders = std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("crds-"));
    let files =
        folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files
        .map(|file| {
            let crd = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            (file.file_name().unwrap().to_string_lossy().into_owned(), crd)
        })
        .collect()
}

#[test]
fn what_earlier_versions_admitted_is_admitted_still() {
    let present = super::crds::all().unwrap();
    let earlier = earlier_crds();
    assert!(earlier.len() >= present.len());
    for (file, old) in earlier {
        let (_, new) =
            present.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("{file} is gone"));
        assert_eq!(incompatible(&old, &serde_json::to_value(new).unwrap()), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn a_rule_that_can_be_fulfilled_in_a_further_way_admits_no_less() {
    let ruled = |rule: &str| json!({"x-kubernetes-validations": [{"rule": rule}]});
    for (old, new, count) in [
        ("has(self.a)", "has(self.b) || has(self.a)", 0),
        ("has(self.a)", "has(self.b) && has(self.a)", 1),
        ("has(self.a)", "has(self.b)", 1),
        ("has(self.a) ? self.a > 1 : true", "has(self.b) || has(self.a) ? self.a > 1 : true", 1),
    ] {
        let mut found = Vec::new();
        find_narrower("", &ruled(old), &ruled(new), &mut found);
        assert_eq!(found.len(), count, "{new}");
    }
}

#[test]
fn exactly_one_of_more_members_admits_no_less_if_no_object_can_have_the_others() {
    let one_of = |members: &str| format!("[{members}].filter(x, x).size() == 1");
    let ruled = |rule: String| json!({"properties": {"a": {}, "b": {}}, "x-kubernetes-validations": [{"rule": rule}]});
    for (new, count) in [("has(self.a), has(self.c)", 0), ("has(self.a), has(self.b)", 1), ("has(self.c)", 1)]
    {
        let mut found = Vec::new();
        find_narrower("", &ruled(one_of("has(self.a)")), &ruled(one_of(new)), &mut found);
        assert_eq!(found.len(), count, "{new}");
    }
}

#[test]
fn a_rule_for_members_that_no_object_can_have_admits_no_less() {
    let old = json!({"properties": {"a": {}}});
    for (rule, count) in [
        ("[has(self.b), has(self.c)].filter(x, x).size() == 0 || self.a == 'x'", 0),
        ("[has(self.b), has(self.a)].filter(x, x).size() == 0 || self.a == 'x'", 1),
        ("[has(self.b)].filter(x, x).size() == 0 && self.a == 'x'", 1),
    ] {
        let mut new = old.clone();
        new["x-kubernetes-validations"] = json!([{"rule": rule}]);
        let mut found = Vec::new();
        find_narrower("", &old, &new, &mut found);
        assert_eq!(found.len(), count, "{rule}");
    }
}

#[test]
fn everything_that_admits_less_is_found() {
    let old = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "maxLength": 5, "enum": ["x", "y"]},
        "b": {"type": "array", "items": {"type": "integer", "minimum": 1}},
    }});
    let changed = |pointer: &str, value: Value| {
        let mut new = old.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[key] = value;
        let mut found = Vec::new();
        find_narrower("", &old, &new, &mut found);
        found.len()
    };
    let rule = json!([{"rule": "has(self.a)"}]);
    for (pointer, value, count) in [
        ("/properties/a/maxLength", json!(4), 1),
        ("/properties/a/maxLength", json!(6), 0),
        ("/properties/a/minLength", json!(1), 1),
        ("/properties/a/pattern", json!("^x$"), 1),
        ("/properties/a/enum", json!(["x"]), 1),
        ("/properties/a/enum", json!(["x", "y", "z"]), 0),
        ("/properties/b/items/minimum", json!(2), 1),
        ("/properties/b/items/type", json!("string"), 1),
        ("/properties/b", json!({"type": "string"}), 2),
        ("/properties/c", json!({"type": "string"}), 0),
        ("/required", json!(["a", "b"]), 1),
        ("/properties", json!({"a": old["properties"]["a"]}), 1),
        ("/x-kubernetes-validations", rule, 1),
        ("/properties/a/default", json!("x"), 1),
    ] {
        assert_eq!(changed(pointer, value.clone()), count, "{pointer} {value}");
    }
}

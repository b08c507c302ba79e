//! `dps-dev reference`: a page for readers that is generated from the CRDs, so that it cannot differ from them.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

const PREFACE: &str = "\
<!-- Generated from crds/ by `make generate`. To change a text, change the doc comment in api/src/. -->

# Field reference

Every field of both kinds, as `kubectl explain` shows them. \
What fields mean together is told in [concepts.md](concepts.md), what a status means in [conditions.md](conditions.md).
A field without a default that is not required may be left out. \
Those that [`deviceDefaults`](#dpsintegration) has, too, are then inherited from there.
";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder with the CustomResourceDefinitions
    #[arg(long, value_name = "DIR", default_value = "crds")]
    crds: PathBuf,

    /// File to write
    #[arg(long, value_name = "FILE", default_value = "docs/reference.md")]
    output: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut files = fs::read_dir(&arguments.crds)
        .map_err(|error| format!("{}: {error}", arguments.crds.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    files.sort();
    let mut page = PREFACE.to_owned();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let crd: Value =
            serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        page.push_str(&kind(&crd));
    }
    fs::write(&arguments.output, page).map_err(|error| format!("{}: {error}", arguments.output.display()))?;
    Ok(())
}

/// The section of one kind.
fn kind(crd: &Value) -> String {
    let names = &crd["spec"]["names"];
    let title = text(&names["kind"]);
    let versions = crd["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut page = format!("\n## {title}\n");
    for version in versions {
        let schema = &version["schema"]["openAPIV3Schema"];
        let group = format!("{}/{}", text(&crd["spec"]["group"]), text(&version["name"]));
        page.push_str(&format!("\n{}\n", sentence(schema)));
        page.push_str(&format!(
            "\n`apiVersion: {group}`, short name `{}`, categories {}.\n",
            texts(&names["shortNames"]).join("`, `"),
            code(&texts(&names["categories"]))
        ));
        let fields = version["selectableFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fields: Vec<&str> =
            fields.iter().map(|field| text(&field["jsonPath"]).trim_start_matches('.')).collect();
        if !fields.is_empty() {
            page.push_str(&format!("Field selectors: {}.\n", code(&fields)));
        }
        page.push_str(&rules_of_root(schema));
        for part in ["spec", "status"] {
            page.push_str(&format!(
                "\n### {title} {part}\n\n| field | type | meaning |\n| --- | --- | --- |\n"
            ));
            let mut rows = Vec::new();
            fields_of(&schema["properties"][part], "", &mut rows);
            rows.iter().for_each(|row| page.push_str(row));
        }
    }
    page
}

/// The rules for the whole object.
fn rules_of_root(schema: &Value) -> String {
    let rules = messages(schema);
    if rules.is_empty() {
        return String::new();
    }
    let items: String = rules.iter().map(|rule| format!("- {}\n", markdown(rule))).collect();
    format!("\nThe API server refuses an object with these words when it breaks a rule:\n\n{items}")
}

/// Adds a row for each field of the schema, in the order of their names.
fn fields_of(schema: &Value, path: &str, rows: &mut Vec<String>) {
    let required = texts(&schema["required"]);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let list = field["type"] == "array";
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let path = if list { format!("{path}[]") } else { path };
        let meaning = meaning(field, required.contains(&name.as_str()));
        rows.push(format!("| `{path}` | {} | {meaning} |\n", type_of(field)));
        fields_of(if list { &field["items"] } else { field }, &path, rows);
    }
}

fn type_of(field: &Value) -> String {
    let plain = |schema: &Value| match (text(&schema["type"]), text(&schema["format"])) {
        ("string", "date-time") => "time".to_owned(),
        ("string", _) => "text".to_owned(),
        (other, _) => other.to_owned(),
    };
    match text(&field["type"]) {
        "array" => format!("list of {}", plain(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", plain(&field["additionalProperties"]))
        }
        "object" if field["x-kubernetes-preserve-unknown-fields"] == true => "any object".to_owned(),
        _ => plain(field),
    }
}

/// The cell that describes a field.
fn meaning(field: &Value, required: bool) -> String {
    let inner = match text(&field["type"]) {
        "array" => &field["items"],
        "object" => &field["additionalProperties"],
        _ => &Value::Null,
    };
    let mut parts = Vec::new();
    parts.extend(required.then(|| "**Required.**".to_owned()));
    parts.push(sentence(field));
    let values = texts(&field["enum"]);
    parts.extend((!values.is_empty()).then(|| format!("One of {}.", code(&values))));
    let default = &field["default"];
    parts.extend((!default.is_null()).then(|| format!("Default: `{}`.", default_text(default))));
    parts.extend(limits(field));
    // Elements with fields have rows for these.
    if inner["properties"].is_null() {
        let each = limits(inner).join(" ");
        parts.extend((!each.is_empty()).then(|| format!("Each of them: {each}")));
    }
    parts.extend(messages(field).iter().map(|rule| format!("Rule: {}.", markdown(rule))));
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

fn limits(schema: &Value) -> Vec<String> {
    let number = |key: &str| schema[key].as_f64();
    let range = |least: &str, most: &str, unit: &str| match (number(least), number(most)) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}.")),
        (None, Some(most)) => Some(format!("At most {most}{unit}.")),
        (Some(least), None) => Some(format!("At least {least}{unit}.")),
        (None, None) => None,
    };
    let pattern = schema["pattern"].as_str().map(|pattern| format!("Pattern: `{}`.", cell(pattern)));
    let limits = [
        range("minLength", "maxLength", " characters"),
        range("minimum", "maximum", ""),
        range("minItems", "maxItems", " entries"),
        range("minProperties", "maxProperties", " entries"),
        pattern,
    ];
    limits.into_iter().flatten().collect()
}

/// The messages of the schema's own rules.
fn messages(schema: &Value) -> Vec<&str> {
    let rules = schema["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default();
    rules.iter().map(|rule| text(&rule["message"])).collect()
}

/// The description as one line that ends like a sentence.
fn sentence(schema: &Value) -> String {
    let line = text(&schema["description"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let end = if line.is_empty() || line.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{end}", markdown(&line))
}

fn default_text(value: &Value) -> String {
    cell(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str())
}

fn code(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("`{}`", cell(text))).collect();
    texts.join(", ")
}

/// Plain text, escaped so that it is no markup, in a table or outside.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if "\\`*_{}[]<>|#".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Text between back-ticks, where only the end of a table's cell is escaped.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(spec: Value) -> Vec<String> {
        let mut rows = Vec::new();
        fields_of(&spec, "", &mut rows);
        rows
    }

    #[test]
    fn a_row_says_all_that_the_schema_says() {
        let spec = json!({"required": ["size"], "properties": {
            "size": {"type": "integer", "description": "How many\nof a|b", "minimum": 1.0, "maximum": 9.0, "default": 3},
        }});
        let meaning = "**Required.** How many of a\\|b. Default: `3`. 1 to 9.";
        assert_eq!(rows(spec), [format!("| `size` | integer | {meaning} |\n")]);
    }

    #[test]
    fn fields_of_lists_and_objects_have_rows_of_their_own() {
        let spec = json!({"properties": {"hubs": {"type": "array", "maxItems": 2, "items": {
            "type": "object", "properties": {"name": {"type": "string", "enum": ["a", "b"]}},
        }}}});
        let expected = [
            "| `hubs[]` | list of object | At most 2 entries. |\n",
            "| `hubs[].name` | text | One of `a`, `b`. |\n",
        ];
        assert_eq!(rows(spec), expected);
    }

    #[test]
    fn elements_without_fields_are_described_with_their_list_or_map() {
        let spec = json!({"properties": {
            "labels": {"type": "object", "maxProperties": 4, "additionalProperties": {"type": "string", "maxLength": 63}},
            "payload": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }});
        let expected = [
            "| `labels` | map of text | At most 4 entries. Each of them: At most 63 characters. |\n",
            "| `payload` | any object |  |\n",
        ];
        assert_eq!(rows(spec), expected);
    }

    #[test]
    fn words_of_rules_are_kept_and_markup_is_not() {
        let spec = json!({"properties": {"id": {
            "type": "string", "description": "An <id>.", "pattern": "^(a|b)$",
            "x-kubernetes-validations": [{"rule": "self != ''", "message": "set one of a_b"}],
        }}});
        let meaning = "An \\<id\\>. Pattern: `^(a\\|b)$`. Rule: set one of a\\_b.";
        assert_eq!(rows(spec), [format!("| `id` | text | {meaning} |\n")]);
    }
}

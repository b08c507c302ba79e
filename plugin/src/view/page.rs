//! The page about conditions, cut into what it says of each reason and event.

use crate::text::{Line, Style};

/// What the page says of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a str,
    /// The heading above it.
    section: &'a str,
    text: Vec<&'a str>,
}

/// Reasons by their headings, then events by the rows of their table, in the page's order.
pub fn entries(page: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut events = Vec::new();
    let mut section = "";
    let mut inside = false;
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            entries.push(Entry { name, section, text: Vec::new() });
            inside = true;
        } else if let Some(title) = line.strip_prefix("## ") {
            (section, inside) = (title, false);
        } else if let Some(entry) = entries.last_mut().filter(|_| inside) {
            entry.text.push(line);
        } else if section == "Events" {
            events.extend(event(line));
        }
    }
    entries.retain(|entry| !entry.name.contains(' '));
    entries.extend(events);
    entries
}

/// A row of the table: `` | `HubChanged` | device | when | ``.
fn event(row: &str) -> Option<Entry<'_>> {
    let mut cells = row.strip_prefix("| `")?.splitn(3, " | ");
    let (name, _, text) = (cells.next()?, cells.next()?, cells.next()?);
    let name = name.split('`').next()?;
    Some(Entry { name, section: "Events", text: vec![text.trim_end_matches(['|', ' '])] })
}

/// What was asked for, in upper or lower case; or the names that are most like it.
pub fn find<'a, 'b>(entries: &'b [Entry<'a>], name: &str) -> Result<&'b Entry<'a>, Vec<&'a str>> {
    let exactly = entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(name));
    exactly.ok_or_else(|| {
        let wanted = name.to_lowercase();
        let mut near: Vec<(usize, &'a str)> =
            entries.iter().map(|entry| (unlike(&wanted, &entry.name.to_lowercase()), entry.name)).collect();
        near.sort_unstable();
        let least = near.first().map_or(0, |(least, _)| *least);
        // One in three letters wrong is a typo; more is another word.
        let typo = least * 3 <= wanted.chars().count();
        near.into_iter().filter(|(unlike, _)| typo && *unlike == least).map(|(_, name)| name).collect()
    })
}

/// How many letters differ; none if the one begins with the other.
fn unlike(one: &str, other: &str) -> usize {
    if one.len() > 3 && other.starts_with(one) {
        return 0;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut above = row[0];
        row[0] = at + 1;
        for (column, against) in other.iter().enumerate() {
            let change = above + usize::from(letter != *against);
            above = row[column + 1];
            row[column + 1] = change.min(above + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// The names below each section, with the beginning of what is said of them.
pub fn list(entries: &[Entry<'_>], width: usize) -> Vec<Line> {
    let names = entries.iter().map(|entry| entry.name.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    let mut section = "";
    for entry in entries {
        if entry.section != section {
            lines.extend((!section.is_empty()).then(Line::default));
            section = entry.section;
            lines.push(Line::of(Style::Strong, section));
        }
        let text =
            entry.text.iter().map(|line| plain(line)).find(|line| !line.is_empty()).unwrap_or_default();
        let text = beginning(&text, width.saturating_sub(names + 4));
        lines.push(Line::plain(format!("  {:names$}  {text}", entry.name)));
    }
    lines
}

fn beginning(text: &str, width: usize) -> String {
    let first = text.split_once(". ").map_or(text, |(first, _)| first);
    if first.chars().count() <= width {
        return first.to_owned();
    }
    let cut: String = first.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words))
}

/// One entry whole.
pub fn lines(entry: &Entry<'_>, width: usize) -> Vec<Line> {
    let title =
        Line::of(Style::Strong, entry.name).and(Style::Faint, format!("   {}", entry.section.to_lowercase()));
    let mut lines = vec![title];
    let mut code = false;
    let last = entry.text.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1);
    for line in &entry.text[..last] {
        if line.starts_with("```") {
            code = !code;
        } else if code {
            lines.push(Line::of(Style::Strong, format!("    {line}")));
        } else {
            lines.extend(Line::plain(plain(line)).wrapped(width));
        }
    }
    lines
}

/// Without the marks of Markdown: a link is its text.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        match after.split_once("](").and_then(|(label, target)| Some((label, target.split_once(')')?.1))) {
            Some((label, after)) => {
                text.push_str(label);
                rest = after;
            }
            None => {
                text.push('[');
                rest = after;
            }
        }
    }
    (text + rest).replace("**", "")
}

#[cfg(test)]
mod tests {
    use dps_operator_api::conditions::Reason;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/conditions.md");

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.paint(false)).collect()
    }

    #[test]
    fn the_page_has_an_entry_for_each_reason_and_event() {
        let entries = entries(PAGE);
        for reason in Reason::ALL {
            let entry = find(&entries, reason.as_str()).unwrap();
            assert!(text(&lines(entry, 80)).len() > 1, "{reason:?}");
        }
        assert_eq!(find(&entries, "keyinbothslots").unwrap().section, "Events");
    }

    #[test]
    fn names_are_found_in_any_case_and_typos_are_guessed() {
        let entries = entries(PAGE);
        assert_eq!(find(&entries, "unauthorized").unwrap().name, "Unauthorized");
        let cases: [(&str, &[&str]); 5] = [
            ("Unauthorised", &["Unauthorized"]),
            ("enrolmentnotfound", &["EnrollmentNotFound"]),
            ("duplicate", &["DuplicateRegistrationId"]),
            ("KeySecretMissing", &[]),
            ("x", &[]),
        ];
        for (typo, wanted) in cases {
            assert_eq!(find(&entries, typo).unwrap_err(), wanted, "{typo}");
        }
    }

    #[test]
    fn a_page_is_shown_without_the_marks_of_markdown() {
        let page = "## Reasons\n\n### Disabled\n\nIt is [off](x.md#y) **now** [1].\n\n```bash\nkubectl get\n```\n\n## Next\n";
        let entries = entries(page);
        assert_eq!(
            text(&lines(&entries[0], 80)),
            ["Disabled   reasons", "", "It is off now [1].", "", "    kubectl get"]
        );
        assert_eq!(text(&list(&entries, 80)), ["Reasons", "  Disabled  It is off now [1]."]);
    }

    #[test]
    fn eighty_columns_suffice_but_for_commands() {
        for entry in entries(PAGE) {
            for line in text(&lines(&entry, 80)) {
                assert!(line.chars().count() <= 80 || line.contains("kubectl"), "{line}");
            }
        }
        for line in text(&list(&entries(PAGE), 80)) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

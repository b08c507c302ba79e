//! The process itself, and what it says.

use super::story::{Breach, Process, Story};
use crate::world::scanner::Scanner;

/// Far above what a test's fleet takes.
const MOST_KIB: u64 = 256 * 1024;
const MOST_DESCRIPTORS: usize = 600;
/// Lines for people: more for each start of the operator, and for each state of an object.
const LINES: usize = 100;

/// It takes no more than it should, and has not panicked.
pub fn is_bounded(story: &Story) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if let Some(Process { peak_kib, descriptors }) = story.process {
        if peak_kib > MOST_KIB {
            breaches.push(Breach::new("bounded self", format!("{peak_kib} KiB")));
        }
        if descriptors > MOST_DESCRIPTORS {
            breaches.push(Breach::new("bounded self", format!("{descriptors} descriptors")));
        }
    }
    if let Some(line) = story.log.lines().find(|line| line.contains("panicked at")) {
        breaches.push(Breach::new("no panic", line));
    }
    let said = story
        .log
        .lines()
        .filter(|line| [" INFO ", " WARN ", " ERROR "].iter().any(|level| line.contains(level)));
    let (said, most) = (said.count(), LINES * (1 + story.starts) + 4 * story.states.len());
    if said > most {
        breaches.push(Breach::new("bounded self", format!("{said} lines in the log, {most} at most")));
    }
    breaches
}

/// So much of a log is searched for secrets: what is said at first, and what is said last.
const SEARCHED: usize = 1024 * 1024;
/// How a token begins, and what stands before its signature.
const TOKEN: [&str; 3] = ["SharedAccessSignature sr=", "&sig=", "%26sig%3D"];

/// Nothing secret is shown where others can read it.
pub fn shows_nothing_secret(story: &Story, scanner: &Scanner) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut look = |place: &str, text: &str| {
        if TOKEN.iter().any(|part| text.contains(part)) || scanner.find(text.as_bytes()).is_some() {
            breaches.push(Breach::new("nothing secret is shown", place));
        }
    };
    ends_of(&story.log).into_iter().for_each(|part| look("the log", part));
    for event in &story.events {
        look("an event", &event.to_string());
    }
    for state in &story.states {
        let mut object = state.object.clone();
        object["data"].take();
        look("an object", &object.to_string());
    }
    breaches
}

fn ends_of(log: &str) -> Vec<&str> {
    if log.len() <= 2 * SEARCHED {
        return vec![log];
    }
    let (head, tail) = (log.floor_char_boundary(SEARCHED), log.ceil_char_boundary(log.len() - SEARCHED));
    vec![&log[..head], &log[tail..]]
}

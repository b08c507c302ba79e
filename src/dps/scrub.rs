//! Texts of the other side that may be shown: in status, events and logs. `Shown` can be made only
//! here, so that nothing that could be a key or a signature leaves an answer otherwise. Pure.
//!
//! What is a secret cannot be known, only what looks like one: long runs of letters and digits that are no
//! words. An echo may have encoded, escaped, cut or spaced it, so punctuation and blanks are not looked at:
//! what counts is how many characters stand between two words of a language.

use std::fmt;

use jiff::Timestamp;

/// Longest text of a DPS error that is kept.
const MESSAGE_MAX: usize = 256;
/// Longest id, time or other short field that is kept.
const FIELD_MAX: usize = 128;
/// Characters of a secret that nobody may learn.
const SECRET: usize = 12;
/// Words that chance makes are shorter.
const LONG_WORD: usize = 9;
/// Characters beside a secret that are kept, since they are as short as words are.
const BESIDE: usize = 6;

/// A text that is safe to show: printable, short, without anything that looks like a key, a token or a
/// signature in any encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// A message for people.
    pub(crate) fn message(text: &str) -> Option<Self> {
        let text: String = text.chars().take(16 * MESSAGE_MAX).collect();
        Self::of(&without_secrets(&text), MESSAGE_MAX)
    }

    /// A name that a person or DPS has chosen: of an enrollment group, of a substatus.
    pub(crate) fn name(text: &str) -> Option<Self> {
        let text: String = text.trim().chars().take(FIELD_MAX).collect();
        if is_guid(&text) {
            return Some(Self(text));
        }
        Self::of(&without_secrets(&text), FIELD_MAX)
    }

    /// A tracking id: a GUID, with whatever Azure appends to one left out, or a text too short to hide
    /// anything.
    pub(crate) fn tracking_id(text: &str) -> Option<Self> {
        let text = text.trim();
        let first = text.get(..GUID.len()).filter(|first| is_guid(first));
        let ends = text.chars().nth(GUID.len()).is_none_or(|next| !next.is_ascii_alphanumeric());
        let short = |text: &str| {
            text.len() < SECRET && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        let id = first.filter(|_| ends).or_else(|| Some(text).filter(|text| !text.is_empty() && short(text)));
        id.map(|id| Self(id.to_owned()))
    }

    /// An etag: base64 of a quoted GUID as DPS makes them, or a text too short to hide anything. Of
    /// another one only a digest is shown: it has to be told from the next one.
    pub(crate) fn etag(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let decoded = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        // One pair of quotes: what stands in many is as long as one likes.
        let is_quoted = std::str::from_utf8(&decoded).is_ok_and(|text| {
            is_guid(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text))
        });
        let graphic = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() {
            None
        } else if is_quoted || is_guid(text) || (graphic && text.len() < SECRET) {
            Some(Self(text.to_owned()))
        } else {
            use sha2::{Digest, Sha256};
            let digest = Sha256::digest(text.as_bytes());
            let first: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            Some(Self(format!("etag-{first}")))
        }
    }

    /// A point in time as DPS writes it.
    pub(crate) fn time(text: &str) -> Option<Self> {
        let is_time = text.parse::<Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok();
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"-:.+TtZz ".contains(&b));
        (is_time && plain && text.len() <= 40).then(|| Self(text.to_owned()))
    }

    fn of(text: &str, most: usize) -> Option<Self> {
        let text: String = text.trim().chars().take(most).collect();
        (!text.is_empty()).then_some(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Shown> for String {
    fn from(shown: Shown) -> Self {
        shown.0
    }
}

/// The form of a GUID: `x` stands for a hex digit.
const GUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

fn is_guid(text: &str) -> bool {
    let fits = |(form, found): (u8, u8)| if form == b'x' { found.is_ascii_hexdigit() } else { found == form };
    text.len() == GUID.len() && GUID.bytes().zip(text.bytes()).all(fits)
}

/// What a run of letters and digits looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A word of a language, or several in one: no part of a secret, unless it stands within one.
    Word,
    /// As short as words and numbers are.
    Short,
    Odd,
}

/// A run of letters and digits.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    text: &'a str,
    at: usize,
    look: Look,
}

impl Piece<'_> {
    fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = 0;
    while let Some(found) = text[rest..].find(|c: char| c.is_ascii_alphanumeric()) {
        let at = rest + found;
        let length = text[at..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len() - at);
        let run = &text[at..at + length];
        pieces.push(Piece { text: run, at, look: look(run) });
        rest = at + length;
    }
    pieces
}

fn look(run: &str) -> Look {
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    if digits == run.len() {
        return if run.len() <= 7 { Look::Short } else { Look::Odd };
    }
    if digits > 0 {
        // A number with its unit.
        let unit = digits + 1 == run.len() && run.ends_with(|c: char| c.is_ascii_lowercase());
        return if unit && run.len() <= 4 { Look::Short } else { Look::Odd };
    }
    if run.bytes().all(|b| b.is_ascii_uppercase()) {
        return if run.len() <= 16 { Look::Short } else { Look::Odd };
    }
    let humps = humps(run);
    if humps.len() == 1 && run.len() < 5 {
        return if run.len() == 1 || has_vowel(run) { Look::Short } else { Look::Odd };
    }
    if run.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Look::Odd;
    }
    let long = humps.iter().filter(|hump| hump.len() >= 4).count();
    let natural =
        2 * long >= humps.len() && humps.iter().all(|hump| hump.len() >= 2 && is_pronounceable(hump));
    if natural && run.len() <= 40 { Look::Word } else { Look::Odd }
}

/// The words in `camelCase`.
fn humps(run: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = run
        .bytes()
        .enumerate()
        .filter(|(at, b)| *at == 0 || b.is_ascii_uppercase())
        .map(|(at, _)| at)
        .collect();
    starts.push(run.len());
    starts.windows(2).map(|pair| &run[pair[0]..pair[1]]).collect()
}

/// Consonants that often stand side by side in words.
const PAIRS: &str = "bb bl br bs cc ch ck cl cr cs ct dd dg dr ds dw ff fl fr fs ft gg gh gl gn gr gs ht kn ks ld lf lk \
                     ll lm lp ls lt lv mb mm mp ms nc nd nf ng nk nl nm nn ns nt nv ph pl pp pr ps pt rb rc rd rf rg rk rl \
                     rm rn rp rr rs rt rv rw sc sh sk sl sm sn sp ss st sw tc th tl tp tr ts tt tw wh wn wr ws xp xt zz";

fn is_vowel(b: u8) -> bool {
    b"aeiouy".contains(&b.to_ascii_lowercase())
}

fn has_vowel(run: &str) -> bool {
    run.bytes().any(is_vowel)
}

/// Vowels and consonants take turns as in words: at most three vowels in a row, and only consonants
/// side by side that often are.
fn is_pronounceable(run: &str) -> bool {
    let lower = run.to_ascii_lowercase();
    let in_a_row = |length: usize, vowel: bool| {
        lower.as_bytes().windows(length).any(|row| row.iter().all(|b| is_vowel(*b) == vowel))
    };
    let pairs = (0..lower.len().saturating_sub(1)).map(|at| &lower[at..at + 2]);
    let mut clusters = pairs.filter(|pair| !has_vowel(pair));
    let vowels = lower.bytes().filter(|b| is_vowel(*b)).count();
    !in_a_row(4, true)
        && !in_a_row(4, false)
        && clusters.all(|pair| PAIRS.contains(pair))
        && 5 * vowels >= run.len()
}

/// The text with `…` in place of what has at least twelve letters and digits between two words and
/// looks odd.
fn without_secrets(text: &str) -> String {
    let pieces = pieces(text);
    let mut hidden = vec![false; pieces.len()];
    hide_long(&pieces, &mut hidden);
    let mut from = 0;
    while from < pieces.len() {
        let stretch = (from..pieces.len()).take_while(|at| !parts(&pieces, *at) && !hidden[*at]);
        let to = from + stretch.count();
        let beside = from.checked_sub(1).is_some_and(|at| hidden[at]) || hidden.get(to) == Some(&true);
        if is_secret(&pieces[from..to], beside) {
            hide_stretch(&pieces, &mut hidden, from, to);
        }
        from = to.max(from + 1);
    }
    shown(text, &pieces, &hidden)
}

/// True for a word that parts what stands on its two sides. Chance makes short ones, too, and those are
/// none near what is odd.
fn parts(pieces: &[Piece<'_>], at: usize) -> bool {
    let long = pieces[at].text.len() >= LONG_WORD && !is_camel(pieces[at].text);
    let near = &pieces[at.saturating_sub(2)..pieces.len().min(at + 3)];
    pieces[at].look == Look::Word && (long || near.iter().all(|piece| piece.look != Look::Odd))
}

/// Hides what is long enough by itself, with the odd pieces beside it: base64 has punctuation, too.
fn hide_long(pieces: &[Piece<'_>], hidden: &mut [bool]) {
    let belongs = |at: &usize| match pieces[*at].look {
        Look::Word => is_camel(pieces[*at].text),
        Look::Short => !is_lower(pieces[*at].text),
        Look::Odd => true,
    };
    for at in 0..pieces.len() {
        if pieces[at].look == Look::Odd && pieces[at].text.len() >= SECRET {
            let before = (0..at).rev().take_while(belongs).count();
            let after = (at..pieces.len()).take_while(belongs).count();
            hidden[at - before..at + after].fill(true);
        }
    }
}

/// True for pieces that may be what is left of a secret that was cut up. `beside`: they stand beside one.
fn is_secret(stretch: &[Piece<'_>], beside: bool) -> bool {
    let total: usize = stretch.iter().map(|piece| piece.text.len()).sum();
    let odd = || stretch.iter().filter(|piece| piece.look == Look::Odd);
    let left_over = beside && odd().count() == 1;
    total >= SECRET && (odd().count() >= 2 || left_over || stretch.len() >= 8)
}

/// Hides a stretch, but for a word or two as short as `for` at its ends, and with odd pieces that only
/// a word parts from it, which chance may have made.
fn hide_stretch(pieces: &[Piece<'_>], hidden: &mut [bool], from: usize, to: usize) {
    let kept = |ends: &mut dyn Iterator<Item = usize>| {
        let mut room = BESIDE;
        let fits = |at: &usize| {
            let text = pieces[*at].text;
            let fits = pieces[*at].look == Look::Short && is_lower(text) && text.len() <= room;
            room = room.saturating_sub(text.len());
            fits
        };
        ends.take(2).take_while(fits).count()
    };
    let (head, tail) = (kept(&mut (from..to)), kept(&mut (from..to).rev()));
    let (mut begin, mut end) = (from + head, (to - tail).max(from + head));
    let is_odd = |at: usize| pieces.get(at).is_some_and(|piece| piece.look == Look::Odd);
    let goes_on = |word: usize, beyond: Option<usize>| {
        pieces.get(word).is_some_and(|piece| is_camel(piece.text)) || beyond.is_some_and(is_odd)
    };
    while head == 0 && begin > 0 && goes_on(begin - 1, begin.checked_sub(2)) {
        begin -= 1;
    }
    while tail == 0 && end < pieces.len() && goes_on(end, Some(end + 1)) {
        end += 1;
    }
    hidden[begin..end].fill(true);
}

fn is_lower(run: &str) -> bool {
    run.bytes().all(|b| b.is_ascii_lowercase())
}

fn is_camel(run: &str) -> bool {
    run.bytes().skip(1).any(|b| b.is_ascii_uppercase()) && run.bytes().any(|b| b.is_ascii_lowercase())
}

fn shown(text: &str, pieces: &[Piece<'_>], hidden: &[bool]) -> String {
    let mut shown = String::new();
    let mut rest = 0;
    let mut at = 0;
    while at < pieces.len() {
        if !hidden[at] {
            at += 1;
            continue;
        }
        let last = at + hidden[at..].iter().take_while(|hidden| **hidden).count() - 1;
        push_printable(&mut shown, &text[rest..pieces[at].at]);
        shown.push('…');
        rest = pieces[last].end();
        // What fills base64 up.
        rest += text[rest..].len() - text[rest..].trim_start_matches('=').len();
        at = last + 1;
    }
    push_printable(&mut shown, &text[rest..]);
    shown
}

fn push_printable(shown: &mut String, text: &str) {
    shown.extend(text.chars().filter_map(|c| match c {
        '\n' | '\r' | '\t' => Some(' '),
        c if c == ' ' || c.is_ascii_graphic() => Some(c),
        _ => None,
    }));
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;

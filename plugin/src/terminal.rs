//! The terminal: its width, whether it wants colours, and what is shown there while one waits.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::text::Line;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colours {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    Always,
    Never,
}

/// What the environment says.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    pub is_terminal: bool,
    pub no_color: bool,
    pub dumb: bool,
}

impl Surroundings {
    fn found() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            is_terminal: io::stdout().is_terminal(),
            no_color: set("NO_COLOR"),
            dumb: std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

impl Colours {
    fn wanted(self, surroundings: Surroundings) -> bool {
        let Surroundings { is_terminal, no_color, dumb } = surroundings;
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && !no_color && !dumb,
        }
    }
}

/// Of what is no terminal, and has no word of its own about it.
const USUAL_WIDTH: usize = 80;
/// Narrower than that nothing can be read.
const LEAST_WIDTH: usize = 40;

/// Where results go.
pub struct Output {
    colours: bool,
    width: usize,
}

impl Output {
    pub fn new(colours: Colours) -> Self {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let surroundings = Surroundings::found();
        let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let width = columns
            .or_else(|| surroundings.is_terminal.then(terminal).flatten())
            .unwrap_or(USUAL_WIDTH)
            .max(LEAST_WIDTH);
        Self { colours: colours.wanted(surroundings), width }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// # Errors
    /// If it cannot be written, for instance since the reader has ended.
    pub fn lines(&self, lines: &[Line]) -> Result<(), Failure> {
        let text: String = lines.iter().map(|line| line.paint(self.colours) + "\n").collect();
        self.raw(&text)
    }

    /// The same with one line, wrapped.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn say(&self, line: &Line) -> Result<(), Failure> {
        self.lines(&line.wrapped(self.width))
    }

    /// # Errors
    /// If it cannot be written.
    pub fn raw(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

/// Something that the person should know, and that is no result.
pub fn note(text: &str) {
    // If it cannot be read, nothing is lost.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Asks on the terminal; `None` if there is none.
pub fn confirmed(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let mut err = io::stderr();
    let _ = write!(err, "{question} [y/N] ");
    let _ = err.flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    Some(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// What is not worth a word if it is over sooner.
const QUICK: Duration = Duration::from_secs(1);

/// One line on stderr that says how far something has come; gone when it is dropped. Only on a terminal.
pub struct Progress {
    started: Instant,
    is_terminal: bool,
    shown: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { started: Instant::now(), is_terminal: io::stderr().is_terminal(), shown: false }
    }

    /// True if it can be seen.
    pub fn is_seen(&self) -> bool {
        self.is_terminal
    }

    pub fn show(&mut self, text: impl FnOnce() -> String) {
        if self.is_terminal && self.started.elapsed() >= QUICK {
            let mut err = io::stderr();
            let width =
                terminal_size::terminal_size_of(&err).map_or(USUAL_WIDTH, |(width, _)| width.0.into());
            // What does not fit on one line could not be taken away again.
            let text: String = text().chars().take(width.saturating_sub(1)).collect();
            let _ = write!(err, "\r\u{1b}[K{text}");
            let _ = err.flush();
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let terminal = Surroundings { is_terminal: true, no_color: false, dumb: false };
        let cases = [
            (Colours::Auto, terminal, true),
            (Colours::Auto, Surroundings { is_terminal: false, ..terminal }, false),
            (Colours::Auto, Surroundings { no_color: true, ..terminal }, false),
            (Colours::Auto, Surroundings { dumb: true, ..terminal }, false),
            (Colours::Always, Surroundings { is_terminal: false, no_color: true, dumb: true }, true),
            (Colours::Never, terminal, false),
        ];
        for (colours, surroundings, wanted) in cases {
            assert_eq!(colours.wanted(surroundings), wanted, "{colours:?} {surroundings:?}");
        }
    }
}

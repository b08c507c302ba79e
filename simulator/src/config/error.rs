//! Why a configuration cannot be used, and where in its text.

use std::fmt;

use super::validate::Invalid;

/// Why a configuration cannot be used, with the place in the file but without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("{}{message}", position.map(|at| format!("{at}: ")).unwrap_or_default())]
    Syntax { position: Option<Position>, message: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A place in the text; line and column are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    line: u64,
    column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Puts a position before what is wrong there, and the field if the message lacks it.
pub(super) fn syntax_error(text: &str, error: &serde_saphyr::Error) -> ConfigError {
    let message = error.without_snippet().to_string();
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(at) = error.location() else {
        return ConfigError::Syntax { position: None, message };
    };
    let position = Position { line: at.line(), column: at.column() };
    let message = message.strip_suffix(&format!(" at {position}")).unwrap_or(&message);
    let field = field_before(text, position);
    let message = match field {
        Some(field) if !message.contains(field) => format!("{field}: {message}"),
        _ => message.to_owned(),
    };
    ConfigError::Syntax { position: Some(position), message }
}

/// The field whose value begins at this place.
fn field_before(text: &str, at: Position) -> Option<&str> {
    let index = usize::try_from(at.line).ok()?.checked_sub(1)?;
    let (before, _) = text.lines().nth(index)?.split_once(':')?;
    let is_value = before.chars().count() as u64 + 1 < at.column;
    is_value.then(|| before.trim_start_matches([' ', '-']).trim_end())
}

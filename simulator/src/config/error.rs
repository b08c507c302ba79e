//! Why a configuration cannot be used, and where in its text.

use std::fmt;

use super::validate::Invalid;

/// Why a configuration cannot be used, with the place in the file but without the file's name.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("{position}{message}")]
    Syntax { position: Position, message: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Line and column, counted from 1, where they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(Option<(u64, u64)>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, "line {line}, column {column}: "),
            None => Ok(()),
        }
    }
}

/// Puts a position before what is wrong there, and the field if the message lacks it.
pub(super) fn syntax_error(text: &str, error: &serde_saphyr::Error) -> ConfigError {
    let message = error.without_snippet().to_string();
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(at) = error.location() else {
        return ConfigError::Syntax { position: Position(None), message };
    };
    let place = format!(" at line {}, column {}", at.line(), at.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let field = usize::try_from(at.line()).ok().and_then(|line| field_before(text, line, at.column()));
    let message = match field {
        Some(field) if !message.contains(field) => format!("{field}: {message}"),
        _ => message.to_owned(),
    };
    ConfigError::Syntax { position: Position(Some((at.line(), at.column()))), message }
}

/// The field whose value begins at this place.
fn field_before(text: &str, line: usize, column: u64) -> Option<&str> {
    let (before, _) = text.lines().nth(line.checked_sub(1)?)?.split_once(':')?;
    let is_value = before.chars().count() as u64 + 1 < column;
    is_value.then(|| before.trim_start_matches([' ', '-']).trim_end())
}

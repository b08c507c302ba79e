//! `explain`: the page about conditions, which comes with the program.

use crate::failure::{Failure, Outcome};
use crate::terminal::Output;
use crate::view::page::{entries, find, lines, list};

const PAGE: &str = include_str!("../../../docs/conditions.md");

pub fn run(output: &Output, reason: Option<&str>) -> Result<Outcome, Failure> {
    let entries = entries(PAGE);
    let Some(reason) = reason else {
        output.lines(&list(&entries, output.width()))?;
        return Ok(Outcome::Fine);
    };
    let entry = find(&entries, reason).map_err(|near| {
        let hint = match near.as_slice() {
            [] => "\"kubectl dps explain\" lists all of them.".to_owned(),
            near => format!("Did you mean {}?", near.join(" or ")),
        };
        Failure::Usage(format!("No reason is called \"{reason}\". {hint}"))
    })?;
    output.lines(&lines(entry, output.width()))?;
    Ok(Outcome::Fine)
}

use std::process::{Command, Stdio};

use crate::error::Error;

/// Runs a program to its end; returns its stdout, or an error with its stderr.
pub(crate) fn output_of(program: &'static str, command: &mut Command) -> Result<String, Error> {
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy().into_owned()).collect();
    let failure = |problem| Error::Tool { program, arguments: arguments.join(" "), problem };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failure(error.to_string()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

//! A panic ends the process, which is started again and loses nothing. Where it happened is logged;
//! its text is not, because it may quote what must not be seen.

use std::panic::{self, PanicHookInfo};
use std::process;

use tracing::error;

/// From now on every panic, in any task, is logged and ends the process.
pub fn end_the_process() {
    panic::set_hook(Box::new(|info| {
        error!(at = place(info), "a bug: the operator panicked and ends; it is safe to start it again");
        // As a shell reports an abort. Nothing is unwound, and no signal asks the kernel for a core.
        process::exit(134);
    }));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::telemetry::logging;

    const CHILD: &str = "DPS_OPERATOR_TEST_PANICS";

    #[test]
    fn a_panic_is_logged_without_its_text_and_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            logging::start("info", true).unwrap();
            end_the_process();
            // In a thread of its own, whose panic would otherwise end nothing.
            let _ = std::thread::spawn(|| panic!("c2VjcmV0")).join();
            return;
        }
        let test = "telemetry::panic::tests::a_panic_is_logged_without_its_text_and_ends_the_process";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(134), "an exit, and no signal that dumps a core");
        assert!(log.contains("src/telemetry/panic.rs:") && log.contains("\"level\":\"ERROR\""), "{log}");
        assert!(!log.contains("c2VjcmV0"), "{log}");
    }
}

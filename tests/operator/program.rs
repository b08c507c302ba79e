//! The program by itself: what it prints, and what it makes of its environment. No cluster is needed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

fn operator() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dps-operator"))
}

/// A kubeconfig of a cluster that does not answer.
fn kubeconfig(name: &str, cluster: &str) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let path = std::env::temp_dir().join(format!("dps-operator-{name}-{}", since.as_nanos()));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs it until it has connected or ended; its log up to there.
fn log_of_start(command: &mut Command) -> String {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        log += &format!("{}\n", line.unwrap());
        if log.contains("starting") {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    log
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [&["crds"][..], &["docs"], &["--help"], &["run", "--help"], &["--version"]] {
        let mut child =
            operator().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        assert_eq!(String::from_utf8_lossy(&stderr), "", "{arguments:?}");
    }
}

#[test]
fn the_usual_proxy_variables_are_ignored_with_any_value() {
    let kubeconfig = kubeconfig("proxy", "");
    for proxy in
        ["http://proxy.example:3128", "socks5://proxy.example", "proxy.example:3128", "::", "http://a b"]
    {
        for variable in ["HTTPS_PROXY", "https_proxy"] {
            let mut command = operator();
            command.args(["run", "--http-addr", "", "--log-level", "info"]).env("KUBECONFIG", &kubeconfig);
            command.env(variable, proxy).env("NO_PROXY", "127.0.0.1,::bad::");
            let log = log_of_start(&mut command);
            assert!(log.contains("starting"), "{variable}={proxy}: {log}");
        }
    }
    std::fs::remove_file(kubeconfig).unwrap();
}

#[test]
fn a_proxy_of_the_kubeconfig_is_refused_without_its_password() {
    let kubeconfig = kubeconfig("named", ", proxy-url: 'http://user:c2VjcmV0@proxy.example:3128'");
    let log = log_of_start(operator().args(["run", "--http-addr", ""]).env("KUBECONFIG", &kubeconfig));
    assert!(log.contains("proxy-url") && !log.contains("c2VjcmV0"), "{log}");
    std::fs::remove_file(kubeconfig).unwrap();
}

//! The program by itself: what it prints, and what it makes of its environment. No cluster is needed.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
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
    log_until(command, "starting")
}

/// Runs it until it has logged this or ended; its log up to there.
fn log_until(command: &mut Command, text: &str) -> String {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        log += &format!("{}\n", line.unwrap());
        if log.contains(text) {
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

const PASSWORD: &str = "c2VjcmV0";

#[test]
fn help_shows_nothing_of_the_environment() {
    let variables = help(&[]);
    let variables = variables.split("[env: ").skip(1).filter_map(|rest| rest.split([']', '=']).next());
    let set: Vec<(String, String)> =
        variables.map(|name| (name.to_owned(), format!("http://user:{PASSWORD}@proxy.example"))).collect();
    assert!(set.len() > 10, "each flag has a variable: {set:?}");
    // A value that cannot be used ends it, but not before the help was asked for.
    for pair in &set {
        assert!(!help(std::slice::from_ref(pair)).contains(PASSWORD), "{}", pair.0);
    }
}

fn help(variables: &[(String, String)]) -> String {
    let output = operator().args(["run", "--help"]).envs(variables.iter().cloned()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_command_line_that_makes_no_sense_is_said_without_passwords() {
    let proxy = format!("http://user:{PASSWORD}@proxy.example:3128");
    let with = |flag: &str| format!("--{flag}={proxy}");
    for arguments in [
        vec!["run".to_owned(), proxy.clone()],
        vec![proxy.clone()],
        vec!["run".to_owned(), with("dps-prox")],
        vec!["run".to_owned(), with("registrations-per-minute")],
        vec!["run".to_owned(), with("events")],
        vec!["run".to_owned(), with("leader-elect")],
        vec!["run".to_owned(), with("allowed-dps-hosts")],
        vec!["run".to_owned(), with("allowed-hub-suffixes")],
        vec!["run".to_owned(), with("http-addr")],
        vec!["run".to_owned(), with("watch-namespaces")],
        vec!["run".to_owned(), with("secret-metadata-allowed-prefixes")],
        vec!["run".to_owned(), with("log-level")],
        vec!["run".to_owned(), format!("--dps-proxy=ftp://user:{PASSWORD} x@proxy.example")],
        vec!["run".to_owned(), "--dps-proxy".to_owned(), format!("user:{PASSWORD}@proxy.example")],
        vec!["crds".to_owned(), "--directory".to_owned(), format!("/nowhere/{proxy}")],
    ] {
        let output = operator().args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && !said.is_empty(), "{arguments:?}");
        assert!(!said.contains(PASSWORD), "{arguments:?}: {said}");
    }
    for variable in ["DPS_OPERATOR_EVENTS", "DPS_OPERATOR_MAX_IN_FLIGHT", "DPS_OPERATOR_PROBE_ADDR"] {
        let output = operator().arg("run").env(variable, &proxy).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains(PASSWORD), "{variable}: {said}");
    }
}

#[test]
fn a_password_among_the_arguments_is_warned_of_and_one_in_the_environment_is_not() {
    let kubeconfig = kubeconfig("password", "");
    let proxy = format!("http://user:{PASSWORD}@proxy.example:3128");
    let run = || {
        let mut command = operator();
        command.args(["run", "--http-addr", ""]).env("KUBECONFIG", &kubeconfig);
        command
    };
    const WARNING: &str = "--dps-proxy holds a password";
    let argument = log_until(run().arg(format!("--dps-proxy={proxy}")), WARNING);
    assert!(argument.contains(WARNING) && !argument.contains(PASSWORD), "{argument}");
    let variable =
        log_until(run().env("DPS_OPERATOR_DPS_PROXY", &proxy), "this process acts, without leader election");
    assert!(!variable.contains(WARNING) && !variable.contains(PASSWORD), "{variable}");
    std::fs::remove_file(kubeconfig).unwrap();
}

#[test]
fn whatever_ends_it_no_core_is_dumped_and_it_uses_files_and_pages_as_it_should() {
    let kubeconfig = kubeconfig("core", "");
    let folder = kubeconfig.with_extension("cores");
    std::fs::create_dir(&folder).unwrap();
    for signal in ["ABRT", "SYS", "XCPU"] {
        // As a container runtime starts it that leaves cores unlimited.
        let script = "ulimit -c unlimited; exec \"$0\" run --http-addr ''";
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_dps-operator")]).env("KUBECONFIG", &kubeconfig);
        let mut child = command.current_dir(&folder).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("starting")), "it never started");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let words = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("Max core file size")[..2], ["0", "0"]);
        let files = words("Max open files");
        assert_eq!(files[0], files[1], "as many as allowed");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let huge_pages = status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).unwrap();
        assert_eq!(huge_pages.trim(), "0");
        let pid = child.id().to_string();
        assert!(Command::new("bash").args(["-c", "kill -$0 $1", signal, &pid]).status().unwrap().success());
        let status = child.wait().unwrap();
        assert!(status.signal().is_some() && !status.core_dumped(), "{signal}: {status}");
    }
    std::fs::remove_dir(&folder).expect("nothing was written");
    std::fs::remove_file(kubeconfig).unwrap();
}

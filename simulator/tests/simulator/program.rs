//! The binary: its options, its ready file and its end.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::device::{self, SCOPE};

/// A directory that is removed at the end of its test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dps-simulator-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Files that cannot be removed stay in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running program on free ports, with one group and no think time.
pub struct Program {
    child: Child,
    /// Read all the time, or a full pipe would stop the program.
    log: JoinHandle<String>,
    announced: String,
    ready: Value,
}

impl Program {
    pub async fn start(scratch: &Scratch) -> Self {
        let (primary, secondary) = (device::primary(), device::secondary());
        let tls = scratch.path().join("tls");
        let config = scratch.file(
            "config.yaml",
            &format!(
                "tls: {{directory: {tls:?}}}\nthinkTime: 0\nidScopes:\n  - idScope: {SCOPE}\n    \
                 hubs: [{hub}]\n    enrollmentGroups:\n      - id: fleet\n        \
                 primaryKey: {primary}\n        secondaryKey: {secondary}\n",
                hub = device::HUB_A
            ),
        );
        let ready_file = scratch.path().join("ready.json");
        let mut child = program()
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--ready-file")
            .arg(&ready_file)
            .env("RUST_LOG", "trace")
            .spawn()
            .unwrap();
        let mut errors = child.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut log = String::new();
            errors.read_to_string(&mut log).await.unwrap();
            log
        });
        let mut announced = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let line = tokio::time::timeout(Duration::from_secs(20), output.read_line(&mut announced));
        line.await.expect("it says in time that it is ready").unwrap();
        let ready = serde_json::from_slice(&std::fs::read(ready_file).unwrap()).unwrap();
        Self { child, log, announced, ready }
    }

    pub fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().unwrap()
    }

    /// Asks it to end, and returns its exit code and what it logged.
    pub async fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(kill.success());
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait());
        (status.await.unwrap().unwrap().code(), self.log.await.unwrap())
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dps-simulator"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(arguments: &[&str]) -> Output {
    let output = program().args(arguments).output();
    tokio::time::timeout(Duration::from_secs(20), output).await.unwrap().unwrap()
}

async fn complaint(config: &Path) -> String {
    let output = run(&["--config", config.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn it_announces_itself_and_ends_on_sigterm() {
    let scratch = Scratch::new("announce");
    let program = Program::start(&scratch).await;
    let port = program.text("address").strip_prefix("127.0.0.1:").unwrap().to_owned();
    let ca = scratch.path().join("tls/ca.crt");
    assert_eq!(program.text("caFile"), ca.to_str().unwrap());
    assert!(ca.exists());
    let admin = program.text("adminAddress");
    assert_eq!(
        program.announced,
        format!(
            "ready: devices at https://localhost:{port}, admin API at http://{admin}, CA in {}\n",
            ca.display()
        )
    );
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("ending"), "{log}");
}

#[tokio::test]
async fn the_example_configuration_starts() {
    let scratch = Scratch::new("example");
    let printed = run(&["--print-default-config"]).await;
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    let directory = scratch.path().join("tls");
    let text = text.replace("./dps-simulator-tls", directory.to_str().unwrap());
    let config = scratch.file("example.yaml", &text);
    let mut child = program()
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
        .arg(config)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    assert!(line.starts_with("ready: "), "{line}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_bad_configuration_is_one_line_with_file_and_place() {
    let scratch = Scratch::new("bad");
    let typo = scratch.file("typo.yaml", "thinkTime: 3s\nquotes: {}\n");
    let message = complaint(&typo).await;
    let place = format!("dps-simulator: {}: line 2, column 1: unknown field `quotes`", typo.display());
    assert!(message.starts_with(&place), "{message}");
    assert_eq!(message.lines().count(), 1);

    let message = complaint(&scratch.path().join("none.yaml")).await;
    assert!(message.contains("none.yaml: cannot be read"), "{message}");
    let message = complaint(&scratch.file("no-tls.yaml", "thinkTime: 3s\n")).await;
    assert!(message.contains("no-tls.yaml: tls.directory: must be given"), "{message}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let scratch = Scratch::new("in-use");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let tls = scratch.path().join("tls");
    let config = scratch.file("config.yaml", &format!("tls: {{directory: {tls:?}}}\n"));
    let output = run(&["--listen", &address, "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&format!("cannot listen on {address}")), "{message}");
}

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dps_dev::{Guarded, eventually};
use serde::Deserialize;
use serde_json::json;

use super::failure::Failure;
use crate::admin::call;

const READY_TIMEOUT: Duration = Duration::from_secs(20);
const QUOTED_LINES: usize = 20;

/// A running `dps-simulator`.
#[derive(Debug)]
pub(super) struct Simulator {
    process: Guarded,
    ready: Ready,
    ca_file: PathBuf,
}

/// The content of its ready file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    address: SocketAddr,
    admin_address: SocketAddr,
    ca_file: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    accepted: bool,
}

impl Simulator {
    /// Starts it on free ports; its files are below `folder`.
    pub(super) fn start(binary: &Path, config: &Path, folder: &Path, log: &Path) -> Result<Self, Failure> {
        let ready_file = folder.join("simulator-ready.json");
        let mut command = Command::new(binary);
        command
            .current_dir(folder)
            .arg("--config")
            .arg(config)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ready-file"])
            .arg(&ready_file);
        let mut process = Guarded::spawn(&command, log)?;
        let ready = eventually(READY_TIMEOUT, || match read_ready(&ready_file) {
            None if process.is_running() => None,
            answer => Some(answer),
        });
        match ready.flatten() {
            Some(ready) => Ok(Self { ca_file: folder.join(&ready.ca_file), process, ready }),
            None => Err(failure(&process, "did not become ready")),
        }
    }

    /// The device endpoint as `localhost:PORT`; its certificate is for `localhost`.
    pub(super) fn host(&self) -> String {
        format!("localhost:{}", self.ready.address.port())
    }

    pub(super) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.process.is_running() {
            true => Ok(()),
            false => Err(failure(&self.process, "has ended")),
        }
    }

    /// Whether the hub would accept this key from a registered device.
    pub(super) fn accepts(&self, id_scope: &str, registration_id: &str, key: &str) -> Result<bool, Failure> {
        let question = json!({ "idScope": id_scope, "registrationId": registration_id, "key": key });
        let answer = call(self.ready.admin_address, "POST /v1/check-device-key", &question.to_string())?;
        let verdict: Verdict =
            serde_json::from_str(&answer).map_err(|error| Failure::Json("the simulator", error))?;
        Ok(verdict.accepted)
    }

    /// Moves a device to another hub, as its owner can do in Azure.
    pub(super) fn move_device(
        &self,
        id_scope: &str,
        registration_id: &str,
        hub: &str,
    ) -> Result<(), Failure> {
        let request = format!("PUT /v1/scopes/{id_scope}/registrations/{registration_id}/hub");
        call(self.ready.admin_address, &request, &json!({ "hub": hub }).to_string())?;
        Ok(())
    }
}

fn failure(process: &Guarded, problem: &'static str) -> Failure {
    Failure::Simulator { problem, log: process.log().to_owned(), tail: process.log_tail(QUOTED_LINES) }
}

/// `None` until the file is there and complete.
fn read_ready(file: &Path) -> Option<Ready> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

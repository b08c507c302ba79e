//! Curl against the binary: the calls that the README documents.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use crate::device::{self, HUB_A, SCOPE, device_key, in_an_hour, token};
use crate::program::{Program, Scratch};

const ID: &str = "my-symkey-device";

pub struct Curl<'a> {
    pub ca: &'a Path,
    /// How the device proves itself: a header, or a certificate with its key.
    pub proof: Vec<String>,
}

impl Curl<'_> {
    /// Status and body of one call.
    pub async fn call(&self, arguments: &[&str]) -> (String, Value) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.ca)
            .args(["--header", "Content-Type: application/json"])
            .args(&self.proof)
            .args(["--write-out", "\n%{http_code}"])
            .args(arguments)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{errors}"));
        // An answer without a body says all with its status.
        let body = if body.is_empty() { "null" } else { body };
        (status.to_owned(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{body} {errors}")))
    }
}

#[tokio::test]
async fn curl_provisions_a_device_and_no_secret_is_logged() {
    let scratch = Scratch::new("curl");
    let program = Program::start(&scratch).await;
    let ca = scratch.path().join("tls/ca.crt");
    let token = token(SCOPE, ID, &device_key(ID), in_an_hour());
    let header = format!("Authorization: {token}");
    let curl = Curl { ca: &ca, proof: vec!["--header".to_owned(), header.clone()] };
    let port = program.text("address").rsplit_once(':').unwrap().1;
    let base = format!("https://localhost:{port}/{SCOPE}/registrations/{ID}");
    let version = "api-version=2021-06-01";
    let body = format!("{{\"registrationId\": \"{ID}\"}}");

    let register = format!("{base}/register?{version}");
    let (status, started) = curl.call(&["--request", "PUT", "--data", &body, &register]).await;
    assert_eq!((status.as_str(), &started["status"]), ("202", &"assigning".into()));

    let operation = started["operationId"].as_str().unwrap();
    let (status, done) = curl.call(&[&format!("{base}/operations/{operation}?{version}")]).await;
    assert_eq!((status.as_str(), &done["status"]), ("200", &"assigned".into()));
    assert_eq!(done["registrationState"]["assignedHub"], HUB_A);
    assert_eq!(done["registrationState"]["deviceId"], ID);

    let (status, record) = curl.call(&["--data", &body, &format!("{base}?{version}")]).await;
    assert_eq!((status.as_str(), &record), ("200", &done["registrationState"]));

    let wrong = Curl { ca: &ca, proof: vec!["--header".to_owned(), header.replace("se=", "se=1")] };
    let (status, refused) = wrong.call(&["--request", "PUT", "--data", &body, &register]).await;
    assert_eq!((status.as_str(), &refused["errorCode"]), ("401", &401_002.into()));

    let (_, log) = program.terminate().await;
    let signature = token.split("sig=").nth(1).unwrap().split('&').next().unwrap();
    for secret in [signature, &device::primary(), &device_key(ID).to_base64()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(!log.contains("SharedAccessSignature"));
}

#[tokio::test]
async fn curl_refuses_the_simulator_without_its_ca() {
    let scratch = Scratch::new("curl-ca");
    let program = Program::start(&scratch).await;
    let port = program.text("address").rsplit_once(':').unwrap().1;
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "20", &format!("https://localhost:{port}/")])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(60), "curl's code for a certificate it cannot trust");
}

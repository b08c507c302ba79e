//! Curl against the binary with certificates: the calls of "How to use X.509 certificates with the DPS HTTPS API".
//! What is done in Azure's portal there is done by the admin API.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::curl::Curl;
use crate::device::{HUB_A, SCOPE};
use crate::pki::Identity;
use crate::program::{Program, Scratch};

struct Article {
    scratch: Scratch,
    program: Program,
    ca: PathBuf,
}

impl Article {
    async fn begin(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let program = Program::start(&scratch).await;
        let ca = scratch.path().join("tls/ca.crt");
        Self { scratch, program, ca }
    }

    async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("http://{}/v1/{path}", self.program.text("adminAddress"));
        let curl = Curl { ca: &self.ca, proof: Vec::new() };
        let (status, answer) = curl.call(&["--request", method, "--data", &body.to_string(), &url]).await;
        assert!(status.starts_with('2'), "{path}: {status} {answer}");
        answer
    }

    async fn upload(&self, ca: &Identity, verified: bool) {
        let path = format!("scopes/{SCOPE}/certificate-authorities/root");
        self.admin("PUT", &path, json!({"certificate": pem(ca), "verified": verified})).await;
    }

    /// The group is for devices under this CA.
    async fn group_for(&self, ca: &Identity) {
        self.admin("PUT", &format!("scopes/{SCOPE}/groups/fleet/certificates"), json!({"primary": pem(ca)}))
            .await;
    }

    /// Registers with a certificate, which these follow, and polls; the last answer.
    async fn register(&self, id: &str, leaf: &Identity, others: &[&Identity]) -> (String, Value) {
        let chain: String =
            [leaf].into_iter().chain(others.iter().copied()).map(|one| one.pem.as_str()).collect();
        let file = |name: &str, text: &str| self.scratch.file(name, text).display().to_string();
        let (chain, key) = (file("chain.pem", &chain), file("key.pem", &leaf.key_pem()));
        let curl =
            Curl { ca: &self.ca, proof: ["--cert", &chain, "--key", &key].map(str::to_owned).to_vec() };
        let port = self.program.text("address").rsplit_once(':').unwrap().1;
        let base = format!("https://localhost:{port}/{SCOPE}/registrations/{id}");
        let body = json!({"registrationId": id}).to_string();
        let version = "api-version=2021-06-01";
        let register = format!("{base}/register?{version}");
        let started = curl.call(&["--request", "PUT", "--data", &body, &register]).await;
        match started.1["status"].as_str() {
            Some("assigning") => {
                let operation = started.1["operationId"].as_str().unwrap();
                curl.call(&[&format!("{base}/operations/{operation}?{version}")]).await
            }
            _ => started,
        }
    }

    async fn registers(&self, id: &str, leaf: &Identity, others: &[&Identity]) {
        let (status, done) = self.register(id, leaf, others).await;
        assert_eq!(status, "200", "{id}: {done}");
        let state = &done["registrationState"];
        assert_eq!((&state["deviceId"], &state["assignedHub"]), (&json!(id), &json!(HUB_A)), "{done}");
        let asked = json!({"idScope": SCOPE, "registrationId": id, "certificate": pem(leaf)});
        assert_eq!(self.admin("POST", "check-device-certificate", asked).await, json!({"accepted": true}));
    }

    async fn is_refused(&self, id: &str, leaf: &Identity, others: &[&Identity]) {
        let (status, refused) = self.register(id, leaf, others).await;
        assert_eq!((status.as_str(), &refused["errorCode"]), ("401", &json!(401_002)), "{id}: {refused}");
    }

    /// Ends the program; no key is in its log.
    async fn end(self, devices: &[&Identity]) {
        let (_, log) = self.program.terminate().await;
        for device in devices {
            let key = device.key_pem();
            assert!(!log.contains(key.lines().nth(1).unwrap()), "a key is in the log");
        }
    }
}

fn pem(identity: &Identity) -> Value {
    json!({"pem": identity.pem})
}

#[tokio::test]
async fn curl_provisions_devices_of_a_group_by_its_root_and_by_intermediate_cas() {
    let article = Article::begin("curl-x509-group").await;
    let root = Identity::root("root");
    let upper = root.intermediate("intermediate-1");
    let lower = upper.intermediate("intermediate-2");
    let (at_root, below) = (root.device("device-01"), lower.device("device-02"));
    article.upload(&root, true).await;
    article.group_for(&root).await;
    article.registers("device-01", &at_root, &[]).await;
    // The article sends all of the chain.
    article.registers("device-02", &below, &[&lower, &upper, &root]).await;
    article.registers("device-02", &below, &[&lower, &upper]).await;
    article.is_refused("device-02", &below, &[&lower]).await;
    article.group_for(&upper).await;
    article.registers("device-02", &below, &[&lower, &upper]).await;
    article.is_refused("device-01", &at_root, &[]).await;
    article.group_for(&lower).await;
    article.registers("device-02", &below, &[&lower, &upper]).await;
    article.end(&[&at_root, &below]).await;
}

#[tokio::test]
async fn curl_provisions_a_device_with_a_certificate_of_its_own() {
    let article = Article::begin("curl-x509-own").await;
    let own = Identity::own("my-x509-device");
    article.is_refused("my-x509-device", &own, &[]).await;
    let path = format!("scopes/{SCOPE}/devices/my-x509-device/certificates");
    article.admin("PUT", &path, json!({"primary": pem(&own)})).await;
    article.registers("my-x509-device", &own, &[]).await;
    article.end(&[&own]).await;
}

#[tokio::test]
async fn curl_is_told_what_a_certificate_is_refused_for() {
    let article = Article::begin("curl-x509-refused").await;
    let root = Identity::root("root");
    let leaf = root.device("device-01");
    article.group_for(&root).await;
    article.upload(&root, false).await;
    article.is_refused("device-01", &leaf, &[]).await;
    article.upload(&root, true).await;
    article.is_refused("device-02", &leaf, &[]).await;
    article.is_refused("device-01", &root.expired_device("device-01"), &[]).await;
    article.admin("PUT", &format!("scopes/{SCOPE}/groups/fleet/enabled"), json!({"enabled": false})).await;
    let (status, disabled) = article.register("device-01", &leaf, &[]).await;
    assert_eq!((status.as_str(), &disabled["status"]), ("200", &json!("disabled")));
    article.end(&[&leaf]).await;
}

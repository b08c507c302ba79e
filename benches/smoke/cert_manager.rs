//! cert-manager's own controllers, with a CA of their own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use dps_dev::Guarded;
use serde_json::{Value, json};

use crate::manifests::service_account;
use crate::report::Outcome;
use crate::setup::{NAMESPACE, Setup};

const CA: &str = "fleet-ca";

/// What the integration asks for.
pub fn asked() -> Value {
    json!({"issuerRef": {"name": CA}})
}

/// Starts them, and grants the operator its rights. Returns the CA's certificate.
pub async fn start(setup: &mut Setup) -> Outcome<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let program = program(&root)?;
    let crds = program.with_file_name("crds.yaml").display().to_string();
    let rights = root.join("dev/rbac-cert-manager.yaml").display().to_string();
    setup.control_plane.kubectl_ok(&["apply", "--server-side", "-f", &crds])?;
    setup.control_plane.kubectl_ok(&["apply", "-f", &rights])?;
    setup.control_plane.kubectl_ok(&[
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=60s",
    ])?;
    setup.control_plane.apply(&manifests().to_string())?;
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(setup.control_plane.admin_kubeconfig());
    let log = setup.control_plane.logs_dir().join("cert-manager.log");
    setup.cert_manager = Some(Guarded::spawn(&command, &log)?);
    loop {
        let secret = setup.secrets().get_opt(CA).await?;
        if let Some(certificate) = secret.and_then(|secret| secret.data?.remove("tls.crt")) {
            return Ok(String::from_utf8(certificate.0)?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn program(root: &std::path::Path) -> Outcome<PathBuf> {
    let built = Command::new(root.join("dev/build-tool")).arg("cert-manager").output()?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).into());
    }
    let path = String::from_utf8(built.stdout)?;
    Ok(PathBuf::from(path.lines().last().ok_or("dev/build-tool says no path")?))
}

fn manifests() -> Value {
    let object = |version: &str, kind: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}});
    let with = |mut object: Value, members: Value| {
        if let (Value::Object(object), Value::Object(members)) = (&mut object, members) {
            object.extend(members);
        }
        object
    };
    let issuer =
        |name: &str, spec: Value| with(object("cert-manager.io/v1", "Issuer", name), json!({"spec": spec}));
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dps-operator-cert-manager"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        with(
            object("rbac.authorization.k8s.io/v1", "RoleBinding", "cert-manager"),
            json!({"roleRef": role, "subjects": [service_account()]}),
        ),
        issuer("selfsigned", json!({"selfSigned": {}})),
        issuer(CA, json!({"ca": {"secretName": CA}})),
        with(object("cert-manager.io/v1", "Certificate", CA), json!({"spec": {
            "secretName": CA, "isCA": true, "commonName": CA, "duration": "87600h",
            "privateKey": {"algorithm": "ECDSA", "size": 256}, "issuerRef": {"name": "selfsigned"},
        }})),
    ]})
}

//! The integration to whose devices DPS issues certificates.

use std::time::Duration;

use dps_simulator::Issuance;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::objects::{is_ready, text};
use crate::world::{Kind, World};

pub const INTEGRATION: &str = "plant";
/// For so long. With the clocks set apart two thirds of it may be over.
const VALIDITY: Duration = Duration::from_secs(5 * 3600);
/// Of every enrollment: each device may come to the integration.
pub const POLICY: Option<Issuance> = Some(Issuance { validity: VALIDITY });

/// For keys on this curve.
pub fn by(curve: &str) -> Value {
    json!({"issuedBy": "Dps", "keyAlgorithm": curve})
}

/// What DPS is asked to issue to the devices of one integration.
pub async fn ask(world: &World, certificate: Value) {
    world.patch(Kind::Integration, INTEGRATION, json!({"spec": {"certificate": certificate}})).await;
}

/// It has a certificate that DPS has issued, if its integration has it issue them.
pub fn is_as_asked(device: &Value) -> bool {
    let issues = device["spec"]["integrationRef"]["name"] == INTEGRATION;
    is_ready(device) && device["status"]["issuedCertificate"].is_object() == issues
}

/// What DPS has issued while its clock was ahead is not valid yet by the hub's: it is asked for once more.
pub async fn replace_early_ones(world: &World) {
    let is_early = |device: &Value| {
        let from = device["status"]["issuedCertificate"]["notBefore"].as_str();
        from.and_then(|from| from.parse().ok()).is_some_and(|from: Timestamp| from > Timestamp::now())
    };
    let early = world.list(Kind::Device).await.into_iter().filter(is_early);
    let early: Vec<String> = early.map(|device| text(&device["metadata"]["name"]).to_owned()).collect();
    println!("{} certificates are not valid yet", early.len());
    for name in &early {
        world.request_registration(Kind::Device, name, "early").await;
    }
    let is_replaced =
        |device: &Value| is_as_asked(device) && device["status"]["lastHandledReprovisionToken"] == "early";
    for name in &early {
        world.wait(Kind::Device, name, "another certificate", is_replaced).await;
    }
}

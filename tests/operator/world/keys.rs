//! Keys of groups and of individual enrollments, and which of them a Secret was made from.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::objects::{data, is_ready};
use super::scanner::{base64, bytes_of, device_key};
use super::waiting::until;
use super::{Kind, PATIENCE, POLL, PRIMARY_KEY, SECONDARY_KEY, World};

/// A key that a group gets after `NEW_KEY`.
pub const NEWEST_KEY: &str = "n67CMAr1lPYY3VluJpnuzp4RawatDl/vwEVHX/E1uURvfzfAL/ewXwJbppxP7ZYq";
/// A key that a group gets in place of its first.
pub const NEW_KEY: &str = super::WRONG_KEY;

/// All that tests use.
pub const GROUP_KEYS: [&str; 4] = [PRIMARY_KEY, SECONDARY_KEY, NEW_KEY, NEWEST_KEY];

/// Keys of individual enrollments; every device that has some has the same.
pub const OWN_KEYS: [&str; 3] = [
    "DCjx9c6rXLqjV/naEi0wBGdZNe+8DlBhEFCHslY2kOtqzImY72+QVZFDAIofGAvzhjH0tdp+7qiNlk29OPWrTA==",
    "tSaUK0C0yUS0A60A6H/8DkA2t1KShgEBoaofvRZurZMLYQGCQH+tXRmBORG9ev1VAoPaAPuMe4MIWoQkJ7+N9A==",
    "uFo8uOazwbe3ItCq+nnqHVHkNFIy/JCk2XiefqGnflTLFcuLfxeWwOf3O6lZLVBu+OGVGGe4dnN0x9Pwe3JY8A==",
];

/// By what status and annotations name a key.
pub fn fingerprint(key: &str) -> String {
    let digest = Sha256::new_with_prefix(b"dps-operator/v1\0").chain_update(bytes_of(key)).finalize();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All keys that a device with this registration id can have, and what each was made from.
pub fn device_keys(id: &str) -> impl Iterator<Item = (&'static str, String)> {
    let derived = GROUP_KEYS.into_iter().map(move |key| (key, base64(&device_key(key, id))));
    derived.chain(OWN_KEYS.into_iter().map(|key| (key, key.to_owned())))
}

/// The key that a Secret was made from. Fails if it is a mixture, or made from none.
pub fn made_from(secret: &Value) -> &'static str {
    let (values, name) = (data(secret), &secret["metadata"]["name"]);
    let key = &values["sharedAccessKey"];
    let found = device_keys(&values["registrationId"]).find(|(_, device)| device == key);
    let Some((maker, _)) = found else { panic!("{name} was made from no key") };
    let (hub, device) = (&values["iotHubHostname"], &values["deviceId"]);
    let whole = format!("HostName={hub};DeviceId={device};SharedAccessKey={key}");
    // A test may name a gateway, which comes last.
    let direct = values["connectionString"].split(";GatewayHostName=").next();
    assert_eq!(direct, Some(whole.as_str()), "{name} is mixed");
    let named = &secret["metadata"]["annotations"]["dps-operator.io/credential-fingerprint"];
    assert_eq!(named, &fingerprint(maker), "{name} names another key than its own");
    maker
}

impl World {
    /// How many generated Secrets were made from this key. Fails if one of them is not whole.
    pub async fn moved_secrets(&self, key: &str) -> usize {
        self.generated_secrets().await.iter().filter(|secret| made_from(secret) == key).count()
    }

    /// Waits until there are so many devices, all of them Ready and moved to this key in this slot.
    pub async fn wait_moved(&self, devices: usize, slot: &str, key: &str) {
        let credential = json!({"type": "SymmetricKey", "slot": slot, "fingerprint": fingerprint(key)});
        let is_moved = |device: &&Value| is_ready(device) && device["status"]["credential"] == credential;
        let all_moved = until(PATIENCE, POLL, async || {
            let secrets = self.moved_secrets(key).await;
            let all = self.list(Kind::Device).await;
            let moved = all.iter().filter(is_moved).count();
            if [secrets, moved, all.len()] == [devices; 3] { Ok(()) } else { Err((secrets, all)) }
        });
        all_moved.await.unwrap_or_else(|(secrets, all)| {
            let (moved, lagging): (Vec<&Value>, Vec<&Value>) = all.iter().partition(is_moved);
            let were_moved = format!("{secrets} Secrets and {} devices were moved", moved.len());
            self.give_up(&were_moved, &json!(lagging[..lagging.len().min(3)]))
        });
    }
}

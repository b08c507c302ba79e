//! One key in both slots: it can be used, and a rotation that goes by the slots would lock the devices
//! out. Pure.

use super::credentials::Credentials;
use crate::api::attestation::{Attestation, SymmetricKey};
use crate::dps::attestation::CredentialId;

/// What is to be said of keys that are the same, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTwice {
    message: String,
    /// Said only once DPS has accepted it: who may name a Secret as a key and not read it could try
    /// guesses on it in the other slot.
    needs_proof_of: Option<CredentialId>,
}

impl KeyTwice {
    /// `None` if there is one key only, or two.
    pub fn of(attestation: &Attestation, credentials: &Credentials) -> Option<Self> {
        let id = credentials.twice()?;
        let SymmetricKey { primary_key_ref: primary, secondary_key_ref, active: _ } =
            attestation.symmetric_key.as_ref()?;
        let secondary = secondary_key_ref.as_ref()?;
        let of_one_secret = primary.name == secondary.name;
        let found = if of_one_secret && primary.key == secondary.key {
            format!(
                "primaryKeyRef and secondaryKeyRef both name key {:?} of Secret {:?}.",
                primary.key, primary.name
            )
        } else {
            format!(
                "Key {:?} of Secret {:?} (primaryKeyRef) and key {:?} of Secret {:?} (secondaryKeyRef) hold one and the same group key.",
                primary.key, primary.name, secondary.key, secondary.name
            )
        };
        let message = format!(
            "{found} To change the active slot changes nothing, and once that key is renewed in Azure no slot has a good one. Before a rotation let each lead to its own key of the group, the primary and the secondary one; it is noticed at once."
        );
        Some(Self { message, needs_proof_of: (!of_one_secret).then_some(id) })
    }

    /// What may be said: `proven` are those that DPS has accepted.
    pub fn said(&self, proven: &[CredentialId]) -> Option<&str> {
        self.needs_proof_of.is_none_or(|id| proven.contains(&id)).then_some(&*self.message)
    }
}

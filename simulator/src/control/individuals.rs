//! Individual enrollments: their keys, and the device id that one may name.

use super::{Control, ControlError};
use crate::dps::{Attestation, Individual};
use crate::keys::{KeyPair, SymmetricKey};

impl Control {
    /// Replaces the keys of a device's individual enrollment, given in base64; it is made if there is none.
    /// A hub accepts the new key only after the device has registered again.
    pub fn set_device_keys(
        &self,
        id_scope: &str,
        registration_id: &str,
        primary: &str,
        secondary: &str,
    ) -> Result<(), ControlError> {
        let (primary, secondary) =
            (SymmetricKey::from_base64(primary)?, SymmetricKey::from_base64(secondary)?);
        self.replace_device_keys(id_scope, registration_id, primary, secondary)
    }

    pub(crate) fn replace_device_keys(
        &self,
        id_scope: &str,
        registration_id: &str,
        primary: SymmetricKey,
        secondary: SymmetricKey,
    ) -> Result<(), ControlError> {
        let keys = Attestation::Keys(KeyPair { primary, secondary });
        self.in_individual(id_scope, registration_id, |entry| entry.attestation = Some(keys))
    }

    /// The device id that a device's individual enrollment names; `None` for the registration id. DPS takes
    /// it up once the registration record was deleted.
    pub fn set_device_id(
        &self,
        id_scope: &str,
        registration_id: &str,
        device_id: Option<&str>,
    ) -> Result<(), ControlError> {
        self.in_individual(id_scope, registration_id, |entry| entry.device_id = device_id.map(str::to_owned))
    }

    /// Deletes a device's individual enrollment; its record stays.
    pub fn remove_device_enrollment(
        &self,
        id_scope: &str,
        registration_id: &str,
    ) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            scope.individuals.remove(&registration_id.to_ascii_lowercase());
            Ok(())
        })
    }

    pub(super) fn in_individual(
        &self,
        id_scope: &str,
        registration_id: &str,
        change: impl FnOnce(&mut Individual),
    ) -> Result<(), ControlError> {
        self.in_scope(id_scope, |scope| {
            let id = registration_id.to_ascii_lowercase();
            change(scope.individuals.entry(id).or_insert_with(Individual::enabled));
            Ok(())
        })
    }
}

//! Certificates that are issued as devices register: policies of enrollments, and the root.

use super::{Control, ControlError};
use crate::config::{Issuance, check_issuance};

impl Control {
    /// Sets the certificate policy of a group, or removes it. Certificates that were issued stay good.
    pub fn set_group_issuance(
        &self,
        id_scope: &str,
        group: &str,
        policy: Option<Issuance>,
    ) -> Result<(), ControlError> {
        check_issuance("group", policy)?;
        self.in_group(id_scope, group, |group| group.enrollment.issuance = policy)
    }

    /// The same for the individual enrollment of a device, which has to be there.
    pub fn set_device_issuance(
        &self,
        id_scope: &str,
        registration_id: &str,
        policy: Option<Issuance>,
    ) -> Result<(), ControlError> {
        check_issuance("device", policy)?;
        self.in_scope(id_scope, |scope| {
            match scope.individuals.get_mut(&registration_id.to_ascii_lowercase()) {
                Some(entry) => entry.enrollment.issuance = policy,
                None => return Err(ControlError::NoIndividualEnrollment(registration_id.to_owned())),
            }
            Ok(())
        })
    }

    /// The root above all certificates that are issued, in PEM.
    pub fn issuing_root_pem(&self) -> &str {
        self.shared.service.issuing_ca.root_pem()
    }
}

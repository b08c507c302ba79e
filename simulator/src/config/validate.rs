//! The checks of a configuration that types cannot express.

use std::collections::HashSet;
use std::fmt;

use super::enrollment::{AllocationPolicy, IdScope, IndividualEnrollment, Issuance, Webhook};
use super::tls::Tls;
use crate::registration_id;

/// An invalid setting: its field, and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    field: String,
    problem: String,
}

pub(super) fn invalid<T>(field: impl fmt::Display, problem: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.to_string(), problem: problem.into() })
}

pub(super) fn id_scopes(scopes: &[IdScope]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for (index, scope) in scopes.iter().enumerate() {
        let path = format!("idScopes[{index}]");
        id_scope(&path, scope)?;
        if !seen.insert(scope.id_scope.to_ascii_lowercase()) {
            return invalid(format!("{path}.idScope"), format!("{:?} occurs twice", scope.id_scope));
        }
    }
    Ok(())
}

pub(super) fn tls(tls: &Tls) -> Result<(), Invalid> {
    match (&tls.certificate, &tls.key, &tls.directory) {
        (Some(_), Some(_), None) | (None, None, _) => Ok(()),
        (Some(_), None, _) => invalid("tls.key", "must be given together with tls.certificate"),
        (None, Some(_), _) => invalid("tls.certificate", "must be given together with tls.key"),
        (Some(_), Some(_), Some(_)) => {
            invalid("tls.directory", "must be left out when tls.certificate and tls.key are given")
        }
    }
}

fn id_scope(path: &str, scope: &IdScope) -> Result<(), Invalid> {
    let id = &scope.id_scope;
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return invalid(
            format!("{path}.idScope"),
            format!("{id:?} is not an id scope; letters and digits only, such as 0ne00000001"),
        );
    }
    hubs(&format!("{path}.hubs"), &scope.hubs)?;
    let mut seen = HashSet::new();
    for (index, group) in scope.enrollment_groups.iter().enumerate() {
        let path = format!("{path}.enrollmentGroups[{index}]");
        if group.id.is_empty() {
            return invalid(format!("{path}.id"), "must not be empty");
        }
        if !seen.insert(&group.id) {
            return invalid(format!("{path}.id"), format!("{:?} occurs twice", group.id));
        }
        attestation(
            &path,
            [group.primary_key.is_some(), group.secondary_key.is_some(), group.x509.is_some()],
        )?;
        issuance(&path, group.issuance)?;
        let (hub, webhook) = (group.hub.as_deref(), group.webhook.as_ref());
        allocation(&path, scope, group.allocation_policy, hub, webhook)?;
    }
    let mut seen = HashSet::new();
    for (index, entry) in scope.individual_enrollments.iter().enumerate() {
        let path = format!("{path}.individualEnrollments[{index}]");
        individual_enrollment(&path, scope, entry)?;
        let id = &entry.registration_id;
        if !seen.insert(id.to_ascii_lowercase()) {
            return invalid(format!("{path}.registrationId"), format!("{id:?} occurs twice"));
        }
    }
    let mut seen = HashSet::new();
    for (index, authority) in scope.certificate_authorities.iter().enumerate() {
        if !seen.insert(&authority.name) {
            let field = format!("{path}.certificateAuthorities[{index}].name");
            return invalid(field, format!("{:?} occurs twice", authority.name));
        }
    }
    Ok(())
}

fn individual_enrollment(path: &str, scope: &IdScope, entry: &IndividualEnrollment) -> Result<(), Invalid> {
    let id = &entry.registration_id;
    if !registration_id::is_valid(id) {
        let problem = format!("{id:?} is not a registration id; {}", registration_id::ALLOWED);
        return invalid(format!("{path}.registrationId"), problem);
    }
    let given = [entry.primary_key.is_some(), entry.secondary_key.is_some(), entry.x509.is_some()];
    if entry.enabled || given != [false; 3] {
        attestation(path, given)?;
    }
    issuance(path, entry.issuance)?;
    let (hub, webhook) = (entry.hub.as_deref(), entry.webhook.as_ref());
    allocation(path, scope, entry.allocation_policy, hub, webhook)
}

/// An enrollment has both keys, or certificates. `given`: primary key, secondary key, certificates.
fn attestation(path: &str, given: [bool; 3]) -> Result<(), Invalid> {
    match given {
        [true, true, false] | [false, false, true] => Ok(()),
        [_, _, true] => invalid(format!("{path}.x509"), "must be left out where keys are given"),
        [true, false, false] => invalid(format!("{path}.secondaryKey"), "must be given"),
        [false, _, false] => {
            let problem = "must be given, or x509; only a disabled individual enrollment can do without both";
            invalid(format!("{path}.primaryKey"), problem)
        }
    }
}

/// Checks the certificate policy of an enrollment.
pub(crate) fn issuance(path: &str, policy: Option<Issuance>) -> Result<(), Invalid> {
    match policy {
        Some(Issuance { validity }) if validity.is_zero() => {
            invalid(format!("{path}.issuance.validity"), "must be more than 0")
        }
        _ => Ok(()),
    }
}

/// Checks the host names of hubs, and that none occurs twice.
pub(crate) fn hubs(path: &str, hubs: &[String]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for (index, hub) in hubs.iter().enumerate() {
        let label =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !hub.contains('.') || !hub.split('.').all(label) {
            return invalid(
                format!("{path}[{index}]"),
                format!("{hub:?} is not a host name such as hub-a.azure-devices.net"),
            );
        }
        if !seen.insert(hub) {
            return invalid(format!("{path}[{index}]"), format!("{hub:?} occurs twice"));
        }
    }
    Ok(())
}

fn allocation(
    path: &str,
    scope: &IdScope,
    policy: AllocationPolicy,
    hub: Option<&str>,
    webhook: Option<&Webhook>,
) -> Result<(), Invalid> {
    match (policy, hub) {
        (AllocationPolicy::Static, Some(hub)) => linked(&format!("{path}.hub"), scope, hub)?,
        (AllocationPolicy::Static, None) => {
            return invalid(
                format!("{path}.hub"),
                "must name a linked hub, since allocationPolicy is static",
            );
        }
        (_, Some(_)) => {
            return invalid(format!("{path}.hub"), "must be left out unless allocationPolicy is static");
        }
        (_, None) => {}
    }
    match (policy, webhook) {
        (AllocationPolicy::Custom, None) => {
            invalid(format!("{path}.webhook"), "must be given, since allocationPolicy is custom")
        }
        (AllocationPolicy::Custom, Some(webhook)) => {
            for (index, rule) in webhook.rules.iter().enumerate() {
                linked(&format!("{path}.webhook.rules[{index}].hub"), scope, &rule.hub)?;
            }
            match &webhook.otherwise {
                Some(answer) => linked(&format!("{path}.webhook.otherwise.hub"), scope, &answer.hub),
                None => Ok(()),
            }
        }
        (_, Some(_)) => {
            invalid(format!("{path}.webhook"), "must be left out unless allocationPolicy is custom")
        }
        (_, None) => Ok(()),
    }
}

fn linked(field: &str, scope: &IdScope, hub: &str) -> Result<(), Invalid> {
    if scope.hubs.iter().any(|linked| linked == hub) {
        return Ok(());
    }
    invalid(field, format!("{hub:?} is not linked; the hubs of this id scope are {:?}", scope.hubs))
}

//! What DPS has accepted of an integration. It outlives what the status has recorded: the key Secret may
//! go away before that is written. Pure.

use super::target::Instance;
use crate::dps::attestation::CredentialId;

/// The last credentials that DPS accepted in one id scope, and how it was reached then.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    last: Option<Last>,
}

#[derive(Clone, Debug)]
struct Last {
    route: Instance,
    credentials: Vec<CredentialId>,
    /// DPS has said so to this process; else a status has.
    answered: bool,
}

/// As many as an integration has slots.
const REMEMBERED: usize = 2;

impl Acceptance {
    /// DPS has accepted the credential, reached like this.
    pub fn answered(&mut self, route: &Instance, credential: CredentialId) {
        self.record(route, credential, true);
    }

    /// The status says so.
    pub fn recall(&mut self, route: &Instance, credential: CredentialId) {
        self.record(route, credential, false);
    }

    fn record(&mut self, route: &Instance, credential: CredentialId, answered: bool) {
        let known = self.last.take().filter(|last| last.route.scope == route.scope);
        let answered = answered || known.as_ref().is_some_and(|last| last.answered);
        let mut credentials = known.map(|last| last.credentials).unwrap_or_default();
        credentials.retain(|known| *known != credential);
        credentials.insert(0, credential);
        credentials.truncate(REMEMBERED);
        self.last = Some(Last { route: route.clone(), credentials, answered });
    }

    /// True if DPS has accepted the credential in this id scope, however it was reached.
    pub fn holds(&self, route: &Instance, credential: CredentialId) -> bool {
        let last = self.last.as_ref().filter(|last| last.route.scope == route.scope);
        last.is_some_and(|last| last.credentials.contains(&credential))
    }

    /// True if DPS has accepted a credential on this very route. Another host could be anybody's: what it
    /// says may concern nobody else before it has accepted a credential, too.
    pub fn is_proven(&self, route: &Instance) -> bool {
        self.last.as_ref().is_some_and(|last| last.route == *route)
    }

    /// DPS has said to this process that it accepts a credential of this integration in the id scope.
    pub fn was_answered_in(&self, scope: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.answered && last.route.scope.as_str() == scope)
    }

    /// DPS has accepted a credential of this integration in the id scope.
    pub fn is_in_scope(&self, scope: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.route.scope.as_str() == scope)
    }
}

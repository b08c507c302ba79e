//! What DPS has accepted of an integration since this process leads. It outlives what the status has
//! recorded: the key Secret may go away before that is written. What the status alone says counts for less:
//! others can write it. Pure.

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
}

/// As many as an integration has slots.
const REMEMBERED: usize = 2;

impl Acceptance {
    /// DPS has accepted the credential, reached like this.
    pub fn record(&mut self, route: &Instance, credential: CredentialId) {
        let known = self.last.take().filter(|last| last.route.scope == route.scope);
        let mut credentials = known.map(|last| last.credentials).unwrap_or_default();
        credentials.retain(|known| *known != credential);
        credentials.insert(0, credential);
        credentials.truncate(REMEMBERED);
        self.last = Some(Last { route: route.clone(), credentials });
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

    /// DPS has accepted a credential of this integration in the id scope.
    pub fn is_in_scope(&self, scope: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.route.scope.as_str() == scope)
    }
}

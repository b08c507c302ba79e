//! Every state that objects were in, also those that a look now and then would miss.

use serde_json::Value;

use super::objects::uid;
use super::{Kind, World};

/// States of all objects of a kind in their order, from the present ones when the history began.
pub struct History {
    kind: Kind,
    present: Vec<Value>,
    skip: usize,
}

impl World {
    /// Begins a history of this kind in the test's namespaces.
    pub async fn history(&self, kind: Kind) -> History {
        let states = self.states(kind).await;
        let mut present: Vec<Value> = Vec::new();
        for state in &states {
            present.retain(|before| uid(before) != uid(state));
            present.push(state.clone());
        }
        History { kind, present, skip: states.len() }
    }
}

impl History {
    /// All states up to now.
    pub async fn so_far(&self, world: &World) -> Vec<Value> {
        let later = world.states(self.kind).await.split_off(self.skip);
        self.present.iter().cloned().chain(later).collect()
    }
}

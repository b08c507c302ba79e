//! What GitOps tools see: how their own programs judge our objects, that nothing which was declared is
//! ever changed, and fleets that come and go.

mod health;
mod ownership;
mod pruning;

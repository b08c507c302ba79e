//! Settled devices that are registered again or looked up.

mod delayed_requests;
mod policies;
mod requests;

use crate::world::World;

/// Calls of one kind that DPS has seen for a device.
fn calls(world: &World, operation: &str, device: &str) -> usize {
    let of_it = |entry: &&dps_simulator::LedgerEntry| entry.registration_id.as_deref() == Some(device);
    world.ledger().iter().filter(of_it).filter(|e| format!("{:?}", e.operation) == operation).count()
}

//! The operator's binary against a real Kubernetes control plane and the DPS simulator.
//!
//! All tests of a run share one control plane; each has a namespace, a simulator and an operator of
//! its own ([`world::World`]). Nothing here reads the operator's types: what is asserted is what a
//! user sees with kubectl.

#[cfg(test)]
mod after_five_minutes;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod dps;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod gitops;
#[cfg(test)]
mod integrations;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod reprovisioning;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod status;
#[cfg(test)]
mod world;

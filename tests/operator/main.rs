//! The operator's binary against a real Kubernetes control plane and the DPS simulator.
//!
//! All tests of a run share one control plane; each has a namespace, a simulator and an operator of
//! its own ([`world::World`]). Nothing here reads the operator's types: what is asserted is what a
//! user sees with kubectl. Folders are subjects; what they share is in `world/`.

// Always true here: below it clippy takes everything for test code, which may unwrap and panic.
#![cfg(test)]

mod devices;
mod dps;
mod examples;
mod gitops;
mod individual;
mod integrations;
mod keys;
mod kubernetes;
mod lifecycle;
mod plugin;
mod program;
mod reprovisioning;
mod secrets;
mod status;
mod under_fire;
mod world;
mod x509;

//! Kubernetes operator for Azure IoT Device Provisioning Service. docs/design.md describes how it works.

pub mod app;
pub mod cli;
pub mod process;

/// A crate of its own, so that other programs can use it without the operator.
pub use dps_operator_api as api;

mod clock;
mod config;
mod controller;
mod dps;
mod engine;
mod fleet;
mod kube_io;
mod schedule;
mod telemetry;

/// What a fuzzer feeds, and what has to hold for every input.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;

/// What the benchmark measures beside the operator; for nothing else.
#[doc(hidden)]
pub mod bench {
    pub use crate::kube_io::write::Writer;
}

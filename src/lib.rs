//! Kubernetes operator for Azure IoT Device Provisioning Service. docs/design.md tells how it works.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod dps;
pub mod engine;
pub mod fleet;
pub mod kube_io;
pub mod schedule;
pub mod telemetry;

//! A local Kubernetes control plane for tests, demo and benchmarks: etcd, kube-apiserver and
//! kube-controller-manager, compiled once from pinned Go modules and run as plain processes.
//!
//! ```no_run
//! # fn main() -> Result<(), dps_dev::Error> {
//! use dps_dev::{ControlPlane, Options};
//!
//! let control_plane = ControlPlane::start(Options::default())?;
//! control_plane.kubectl_ok(&["create", "namespace", "factory"])?;
//! control_plane.stop()
//! # }
//! ```
//!
//! Everything here blocks; an async test calls it through its runtime's way of blocking.

mod assets;
pub mod audit;
mod certificates;
mod components;
mod control_plane;
mod directory;
mod error;
mod kubectl;
mod node;
mod options;
pub mod pki;
mod ports;
pub mod process;
mod processes;
mod tool;
mod wait;

pub use assets::Assets;
pub use components::Component;
pub use control_plane::ControlPlane;
pub use error::Error;
pub use node::{NODE_ADDRESS, Node, NodeOptions, Sandbox};
pub use options::Options;
pub use process::{Guarded, Signal};
pub use wait::eventually;

//! What users write and read: the two kinds, their conditions and every name they may rely on.

pub mod conditions;
pub mod device;
pub mod duration;
pub mod integration;
pub mod names;
pub mod payload;
mod schema;
pub mod shared;

pub use schema::crds;

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod rules;

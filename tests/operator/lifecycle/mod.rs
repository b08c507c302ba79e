//! The operator's process: started, ended, replaced by a standby or by a later version.

mod leader;
mod newer_objects;
mod restart;
mod shutdown;
mod two_operators;
mod upgrade;

//! The settings that can be changed while the simulator runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Quotas, duration};

/// The part of the configuration that can be changed while the simulator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// How long an operation is `assigning`.
    #[serde(with = "duration::required")]
    pub think_time: Duration,
    /// Whether register answers 200 with the assignment instead of 202.
    pub assign_at_once: bool,
    /// The `Retry-After` of a 202; without it there is no such header.
    #[serde(with = "duration::optional")]
    pub retry_after: Option<Duration>,
    pub quotas: Quotas,
}

impl Settings {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            think_time: config.think_time,
            assign_at_once: config.assign_at_once,
            retry_after: config.retry_after,
            quotas: config.quotas,
        }
    }
}

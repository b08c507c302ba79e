//! What users see: conditions, events, probes and metrics.

mod counters;
mod events;
mod kept_conditions;
mod probes_and_metrics;

//! The operator's binary against a real Kubernetes control plane and the DPS simulator.
//!
//! All tests of a run share one control plane; each has a namespace, a simulator and an operator of
//! its own ([`world::World`]). Nothing here reads the operator's types: what is asserted is what a
//! user sees with kubectl.

#[cfg(test)]
mod a_long_wait;
#[cfg(test)]
mod api_server;
#[cfg(test)]
mod asked_again;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod canaries;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod consent;
#[cfg(test)]
mod deep_payloads;
#[cfg(test)]
mod dps_answers;
#[cfg(test)]
mod dps_outages;
#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod events;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod fights;
#[cfg(test)]
mod first_registration;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod gitops;
#[cfg(test)]
mod inherited;
#[cfg(test)]
mod integrations;
#[cfg(test)]
mod kept_conditions;
#[cfg(test)]
mod leader;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod long_lines;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod referring;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod rollout;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod scanner;
#[cfg(test)]
mod secret_conflicts;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod triggers;
#[cfg(test)]
mod two_operators;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod world;
#[cfg(test)]
mod wrong_key;

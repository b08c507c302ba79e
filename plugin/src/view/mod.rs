//! What is said about a model, as lines: pure.

pub mod device;
pub mod fleet;
pub mod page;
pub mod rotation;
#[cfg(test)]
mod tests;

use crate::model::brief::Group;
use crate::text::{Line, Style, Tree};

/// As many names of a group are shown.
const NAMES: usize = 3;
/// What hubs of the public cloud end with.
const HUB_SUFFIX: &str = ".azure-devices.net";

/// The first label of a hub's host name, if the rest is what most have.
fn short_hub(hostname: &str) -> &str {
    hostname.strip_suffix(HUB_SUFFIX).unwrap_or(hostname)
}

fn total(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.devices).sum()
}

/// `Unauthorized x3: press-01, oven-02, camera-05`.
fn group(group: &Group, style: Style) -> Line {
    let names = group.names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    let more = group.devices.saturating_sub(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Line::of(style, &group.reason).and(Style::Plain, format!(" x{}: {names}{more}", group.devices))
}

fn explain(reason: &str) -> Line {
    Line::of(Style::Faint, format!("→ kubectl dps explain {reason}"))
}

/// Devices that a person has to do something about, and those that wait.
fn troubles(tree: &mut Tree, needs_you: &[Group], waiting: &[Group]) {
    if !needs_you.is_empty() {
        tree.row("needs you", Line::of(Style::Bad, devices(total(needs_you))));
        for of in needs_you {
            tree.more(group(of, Style::Bad));
            tree.more(explain(&of.reason));
        }
    }
    if !waiting.is_empty() {
        tree.row("waiting", Line::of(Style::Waiting, devices(total(waiting))));
        waiting.iter().for_each(|of| tree.more(group(of, Style::Waiting)));
    }
}

fn devices(count: usize) -> String {
    format!("{count} {}", if count == 1 { "device" } else { "devices" })
}

//! A rotation as lines.

use dps_operator_api::attestation::KeySlot;
use jiff::Timestamp;

use crate::model::rotation::{Plan, Rotation, USUAL_RATE, slot_name, takes};
use crate::model::spans::{lasting, seconds};
use crate::text::{Line, Style};

/// Characters of the bar.
const BAR: usize = 20;

fn bar(done: i32, total: i32) -> String {
    let (done, total) = (usize::try_from(done).unwrap_or(0), usize::try_from(total).unwrap_or(0));
    // Full only when all are moved.
    let full = (done * BAR).checked_div(total).unwrap_or(BAR).min(BAR);
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

/// `█████░░░░░ 64/127 to Secondary, about 1 min left`.
pub fn progress(rotation: &Rotation, now: Timestamp) -> Line {
    let Rotation {
        to,
        done,
        total,
        pending: _,
        excluded,
        blocked,
        paused,
        suspended,
        started_at,
        seconds_left,
    } = rotation;
    let to =
        to.as_deref().map_or_else(|| "to certificates of another CA".to_owned(), |to| format!("to {to}"));
    let style = if *blocked { Style::Bad } else { Style::Waiting };
    let line = Line::of(style, bar(*done, *total)).and(Style::Plain, format!(" {done}/{total} {to}"));
    let since = lasting(seconds(*started_at, now));
    let line = match (blocked, suspended, paused) {
        (true, ..) => line.and(Style::Bad, ", blocked: DPS refuses the new one"),
        (_, true, _) => line.and(Style::Waiting, ", held by spec.suspend"),
        (.., true) => line.and(Style::Waiting, ", paused by spec.rollout.paused"),
        _ => line,
    };
    let line = line.and(Style::Plain, format!(", began {since} ago"));
    let line = match seconds_left {
        Some(left) => line.and(Style::Plain, format!(", about {} left", lasting(*left))),
        None => line,
    };
    match excluded {
        0 => line,
        _ => line.and(Style::Plain, format!("; {excluded} stay (suspended, or reprovision.policy Never)")),
    }
}

/// What a rotation would do.
pub fn plan(name: &str, to: KeySlot, plan: &Plan) -> Vec<Line> {
    let Plan::Move { devices, suspended, pace, paused } = plan else { return Vec::new() };
    let (from, to) = (slot_name(other(to)), slot_name(to));
    let rate = pace.unwrap_or(USUAL_RATE);
    let time = lasting(takes(*devices, rate));
    let by = if pace.is_some() { "set for it" } else { "usual rate" };
    let mut lines = vec![
        Line::of(Style::Strong, format!("{name}: from the {from} key to the {to} key")),
        match devices {
            0 => Line::plain("  No device is registered yet, as far as the operator has counted."),
            _ => Line::plain(format!(
                "  {devices} devices register again, {rate} a minute ({by}): about {time}."
            )),
        },
        Line::plain(format!(
            "  The first three are canaries, one after the other: if DPS refuses the {to} key for them, the others \
             stay where they are."
        )),
        Line::plain(
            "  Each one's Secret is replaced in one write. Applications that read it only when they start have to be restarted.",
        ),
    ];
    if *suspended > 0 {
        lines.push(Line::plain(format!(
            "  {suspended} of them are suspended and stay with the {from} key; so do those with reprovision.policy Never."
        )));
    }
    if *paused {
        lines.push(Line::of(
            Style::Waiting,
            "  spec.rollout.paused is true: only new devices, and those that you reprovision, use the new key until \
             you say --resume.",
        ));
    }
    lines
}

fn other(slot: KeySlot) -> KeySlot {
    match slot {
        KeySlot::Primary => KeySlot::Secondary,
        KeySlot::Secondary => KeySlot::Primary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation() -> Rotation {
        Rotation {
            to: Some("Secondary".to_owned()),
            done: 107,
            total: 127,
            pending: 20,
            excluded: 0,
            blocked: false,
            paused: false,
            suspended: false,
            started_at: "2026-11-29T12:00:00Z".parse().unwrap(),
            seconds_left: Some(12),
        }
    }

    #[test]
    fn progress_says_how_far_it_is_and_what_holds_it() {
        let now = "2026-11-29T12:01:00Z".parse().unwrap();
        let moving = "████████████████░░░░ 107/127 to Secondary, began 60 s ago, about 12 s left";
        let paused =
            "████████████████░░░░ 107/127 to Secondary, paused by spec.rollout.paused, began 60 s ago";
        let blocked =
            "████████████████░░░░ 107/127 to Secondary, blocked: DPS refuses the new one, began 60 s ago";
        let held = Rotation { seconds_left: None, ..rotation() };
        let cases = [
            (rotation(), moving.to_owned()),
            (Rotation { paused: true, ..held.clone() }, paused.to_owned()),
            (Rotation { blocked: true, paused: true, ..held }, blocked.to_owned()),
            (
                Rotation { excluded: 2, ..rotation() },
                format!("{moving}; 2 stay (suspended, or reprovision.policy Never)"),
            ),
        ];
        for (rotation, wanted) in cases {
            assert_eq!(progress(&rotation, now).paint(false), wanted);
        }
    }

    #[test]
    fn the_bar_is_full_only_at_the_end() {
        let cases = [(0, 100, 0), (99, 100, 19), (100, 100, 20), (0, 0, 20)];
        for (done, total, wanted) in cases {
            assert_eq!(bar(done, total).matches('█').count(), wanted, "{done} {total}");
        }
    }

    #[test]
    fn a_plan_says_how_many_how_fast_and_how_long() {
        let moves = Plan::Move { devices: 1200, suspended: 3, pace: Some(100), paused: true };
        let text: Vec<String> =
            plan("fleet/factory", KeySlot::Secondary, &moves).iter().map(|line| line.paint(false)).collect();
        let text = text.join("\n");
        for part in [
            "fleet/factory: from the Primary key to the Secondary key",
            "1200 devices register again, 100 a minute (set for it): about 12 min.",
            "3 of them are suspended",
            "until you say --resume",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let usual = Plan::Move { devices: 1200, suspended: 0, pace: None, paused: false };
        let text = plan("factory", KeySlot::Primary, &usual)[1].paint(false);
        assert_eq!(text, "  1200 devices register again, 600 a minute (usual rate): about 2 min.");
    }
}

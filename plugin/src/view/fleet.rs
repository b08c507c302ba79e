//! Integrations and their devices as trees.

use dps_operator_api::integration::DeviceCounts;
use jiff::Timestamp;

use super::rotation::progress;
use super::{devices, explain, short_hub, troubles};
use crate::model::State;
use crate::model::fleet::{Credentials, FleetReport, IntegrationReport, Unlisted, is_new};
use crate::model::spans::{clock, lasting, seconds};
use crate::text::{Line, Style, Tree};

/// What an integration says when there is nothing to say, since version 0.1.0.
const NOTHING_WRONG: [&str; 3] = [
    "The configuration is valid and nothing is known to be wrong.",
    "DPS accepts the key.",
    "DPS accepts the devices' certificates.",
];
/// As many hubs are shown.
const HUBS: usize = 5;

/// All of it, a blank line between two trees.
pub fn lines(report: &FleetReport, width: usize, now: Timestamp) -> Vec<Line> {
    let FleetReport { integrations, unlisted } = report;
    let trees = integrations.iter().map(|integration| tree(integration, now));
    let all: Vec<Tree> = trees.chain(unlisted.iter().map(unlisted_tree)).collect();
    let mut lines = Vec::new();
    for (at, tree) in all.iter().enumerate() {
        if at > 0 {
            lines.push(Line::default());
        }
        lines.extend(tree.lines(width));
    }
    lines
}

pub fn style_of(state: State) -> Style {
    match state {
        State::NeedsYou => Style::Bad,
        State::Waiting | State::Suspended => Style::Waiting,
        State::Ready => Style::Good,
    }
}

fn title(report: &IntegrationReport) -> Line {
    let line = Line::of(Style::Strong, report.key());
    let ready = match report.ready.as_deref() {
        Some("True") => "Ready",
        Some(_) => "Not ready",
        None => "not looked at yet: is the operator running?",
    };
    let line = line.and(style_of(report.state), format!("   {ready}"));
    if report.reason == "Available" || is_new(&report.reason) {
        return line;
    }
    line.and(style_of(report.state), format!(", {}", report.reason))
}

fn tree(report: &IntegrationReport, now: Timestamp) -> Tree {
    let mut tree = Tree::new(title(report));
    let message = report.message.as_deref().filter(|message| !NOTHING_WRONG.contains(message));
    if let Some(message) = message {
        tree.row("says", Line::plain(message));
        if report.state == State::NeedsYou {
            tree.more(explain(&report.reason));
        }
    }
    // Of a group's key its own row says so.
    let of_key = matches!(report.credentials, Credentials::GroupKey { .. });
    let unproven = if report.accepted || of_key { "" } else { ", which has accepted no device yet" };
    tree.row("DPS", Line::plain(format!("{} via {}{unproven}", report.id_scope, report.hostname)));
    credentials(&mut tree, &report.credentials, now);
    rate(&mut tree, report, now);
    if let Some(rotation) = &report.rotation {
        tree.row("rotation", progress(rotation, now));
    }
    tree.row("devices", report.devices.as_ref().map_or_else(|| Line::plain("not counted yet"), counts));
    if !report.hubs.is_empty() {
        tree.row("hubs", hubs(report));
    }
    troubles(&mut tree, &report.needs_you, &report.waiting);
    if report.failed_elsewhere > 0 {
        let more = devices(report.failed_elsewhere);
        tree.row(
            "elsewhere",
            Line::of(Style::Bad, format!("{more} of other namespaces failed; -A shows them")),
        );
    }
    tree
}

fn credentials(tree: &mut Tree, credentials: &Credentials, now: Timestamp) {
    match credentials {
        Credentials::GroupKey { asked, in_use, fingerprint } => {
            let slot = in_use.as_ref().unwrap_or(asked);
            let known = fingerprint.as_ref().map_or_else(String::new, |known| format!(" ({known})"));
            let line = Line::plain(format!("{slot}{known}"));
            let line = match (slot == asked, fingerprint) {
                (true, Some(_)) => line,
                (true, None) => line.and(Style::Plain, ", which DPS has not accepted yet"),
                (false, _) => {
                    line.and(Style::Bad, format!(", since DPS refuses {asked}, which spec asks for"))
                }
            };
            tree.row("key", line);
        }
        Credentials::Certificates { secret_name, first_expires, overdue, expired } => {
            tree.row(
                "credentials",
                Line::plain(format!("a certificate of each device's own, in Secret {secret_name}")),
            );
            if let Some(expires) = first_expires {
                let left = lasting(seconds(now, *expires));
                tree.more(Line::plain(format!("the first one expires in {left}, {}", clock(*expires, now))));
            }
            if overdue + expired > 0 {
                tree.more(Line::of(Style::Bad, format!("{expired} expired, {overdue} overdue for renewal")));
            }
        }
        Credentials::PerDevice => tree.row("credentials", Line::plain("each device has its own")),
    }
}

fn rate(tree: &mut Tree, report: &IntegrationReport, now: Timestamp) {
    let limit = report
        .registrations_per_minute
        .map(|limit| Line::plain(format!("at most {limit} a minute (spec.rateLimit)")));
    let throttled = report.throttled_until.map(|until| {
        let left = lasting(seconds(now, until));
        Line::of(
            Style::Waiting,
            format!("DPS throttles: it is called again in {left}, {}", clock(until, now)),
        )
    });
    let quota = report.quota_insufficient.as_ref().map(|message| Line::of(Style::Waiting, message));
    let mut lines = limit.into_iter().chain(throttled).chain(quota);
    if let Some(first) = lines.next() {
        tree.row("rate", first);
        lines.for_each(|line| tree.more(line));
    }
}

fn counts(counts: &DeviceCounts) -> Line {
    let DeviceCounts { total, ready, pending, failed, suspended, assigned: _ } = counts;
    let mut line = Line::plain(format!("{total}"));
    let parts = [
        (*ready, "ready", Style::Good),
        (*failed, "failed", Style::Bad),
        (*pending, "pending", Style::Waiting),
        (*suspended, "suspended", Style::Waiting),
    ];
    let mut before = ": ";
    for (count, word, style) in parts.into_iter().filter(|(count, ..)| *count > 0) {
        line = line.and(Style::Plain, before).and(style, format!("{count} {word}"));
        before = ", ";
    }
    line
}

fn hubs(report: &IntegrationReport) -> Line {
    let mut shown: Vec<String> = report
        .hubs
        .iter()
        .take(HUBS)
        .map(|hub| format!("{} {}", short_hub(&hub.hostname), hub.devices))
        .collect();
    let rest: i32 = report.hubs.iter().skip(HUBS).map(|hub| hub.devices).sum::<i32>() + report.other_hubs;
    if rest > 0 {
        shown.push(format!("others {rest}"));
    }
    Line::plain(shown.join(", "))
}

fn unlisted_tree(unlisted: &Unlisted) -> Tree {
    let Unlisted { integration, missing, devices: count, needs_you, waiting } = unlisted;
    let title = Line::of(Style::Strong, integration.as_str());
    let mut tree = Tree::new(if *missing {
        title.and(Style::Bad, "   does not exist")
    } else {
        title.and(Style::Faint, "   in another namespace; -A shows it, if you may see it")
    });
    tree.row("devices", Line::plain(format!("{count}")));
    if *missing {
        tree.row("needs you", Line::plain("create it, or correct spec.integrationRef of these devices"));
        tree.more(explain("IntegrationNotFound"));
    }
    troubles(&mut tree, needs_you, waiting);
    tree
}

//! One device as a tree.

use dps_operator_api::device::LastError;
use jiff::Timestamp;

use super::explain;
use super::fleet::style_of;
use crate::model::State;
use crate::model::device::{Credential, DeviceReport, Integration, Next, Said};
use crate::model::fleet::is_new;
use crate::model::spans::{clock, lasting, seconds};
use crate::text::{Line, Style, Tree};

pub fn lines(report: &DeviceReport, width: usize, now: Timestamp) -> Vec<Line> {
    tree(report, now).lines(width)
}

fn title(report: &DeviceReport) -> Line {
    let line = Line::of(Style::Strong, format!("{}/{}", report.namespace, report.name));
    let style = style_of(report.state);
    if is_new(&report.reason) {
        let what = if report.suspended {
            "Suspended, new"
        } else {
            "New: it waits for its turn, or is being registered"
        };
        return line.and(style, format!("   {what}"));
    }
    let ready = report.conditions.iter().any(|said| said.kind == "Ready" && said.status == "True");
    let line = line.and(style, format!("   {}", if ready { "Ready" } else { "Not ready" }));
    let line = if report.suspended { line.and(Style::Waiting, ", suspended") } else { line };
    let quiet = report.reason == "Provisioned" || report.suspended && report.state == State::Suspended;
    if quiet { line } else { line.and(style, format!(", {}", report.reason)) }
}

fn tree(report: &DeviceReport, now: Timestamp) -> Tree {
    let mut tree = Tree::new(title(report));
    integration(&mut tree, report);
    let scope = report.id_scope.as_ref().map_or_else(String::new, |scope| format!(" in {scope}"));
    let registered = report.registered.map_or_else(
        || Line::of(Style::Faint, ", not registered yet"),
        |at| Line::plain(format!(", registered {} ago", lasting(seconds(at, now)))),
    );
    let line = Line::plain(format!("{}{scope}", report.registration_id));
    tree.row("registration", line.then(registered));
    if let Some(hub) = &report.hub {
        let device = report.device_id.as_ref().filter(|id| **id != report.registration_id);
        let device = device.map_or_else(String::new, |id| format!(", device id {id}"));
        tree.row("hub", Line::plain(format!("{hub}{device}")));
        if let Some(previous) = &report.previous_hub {
            tree.more(Line::of(Style::Faint, format!("before: {previous}")));
        }
    }
    if let Some(secret) = &report.secret {
        tree.row("Secret", Line::plain(secret));
    }
    if let Some(credential) = &report.credential {
        tree.row("credential", credential_line(credential, now));
    }
    if let Some((first, rest)) = report.conditions.split_first() {
        tree.row("conditions", condition(first, now));
        tree.more(Line::plain(format!("  {}", first.message)));
        for (at, said) in rest.iter().enumerate() {
            tree.more(condition(said, now));
            // Reconciling and Stalled repeat what Ready says.
            let new = !report.conditions[..=at].iter().any(|before| before.message == said.message);
            if new {
                tree.more(Line::plain(format!("  {}", said.message)));
            }
        }
    }
    if let Some(error) = &report.last_error {
        last_error(&mut tree, error, report.attempts, now);
    }
    tree.row("next", next(&report.next, now));
    if report.state == State::NeedsYou {
        tree.row("needs you", explain(&report.reason));
    }
    tree
}

fn integration(tree: &mut Tree, report: &DeviceReport) {
    let line = Line::plain(report.integration.as_str());
    match &report.integration_state {
        Integration::Usable => tree.row("integration", line.and(Style::Good, "   Ready")),
        Integration::Hidden => tree.row("integration", line.and(Style::Faint, "   you may not read it")),
        Integration::Missing => tree.row("integration", line.and(Style::Bad, "   does not exist")),
        Integration::Trouble { reason, message } => {
            tree.row("integration", line.and(Style::Bad, format!("   {reason}")));
            tree.more(Line::plain(message));
        }
    }
}

fn credential_line(credential: &Credential, now: Timestamp) -> Line {
    let Credential { slot, fingerprint, expires } = credential;
    let what = slot.as_ref().map_or_else(
        || expires.map_or("a key of its own", |_| "a certificate").to_owned(),
        |slot| format!("{slot} key"),
    );
    let fingerprint = fingerprint.as_ref().map_or_else(String::new, |known| format!(" ({known})"));
    let expires = expires.map_or_else(String::new, |at| {
        format!(", expires in {}, {}", lasting(seconds(now, at)), clock(at, now))
    });
    Line::plain(format!("{what}{fingerprint}{expires}"))
}

fn condition(said: &Said, now: Timestamp) -> Line {
    let Said { kind, status, reason, message: _, since } = said;
    let good = (kind == "Stalled" || kind == "Reconciling") != (status == "True");
    let style = match (good, kind.as_str()) {
        (true, _) => Style::Good,
        (false, "Reconciling") => Style::Waiting,
        (false, _) => Style::Bad,
    };
    Line::of(style, format!("{kind}={status}"))
        .and(Style::Plain, format!(" {reason}"))
        .and(Style::Faint, format!(", since {}", lasting(seconds(*since, now))))
}

fn last_error(tree: &mut Tree, error: &LastError, attempts: Option<u32>, now: Timestamp) {
    let LastError { http_status, code, message, tracking_id, time } = error;
    let status = http_status.map_or_else(|| "no HTTP answer".to_owned(), |status| format!("HTTP {status}"));
    let code = code.map_or_else(String::new, |code| format!(", code {code}"));
    let ago = time.as_ref().map_or_else(String::new, |at| format!(", {} ago", lasting(seconds(at.0, now))));
    tree.row("last error", Line::of(Style::Bad, status).and(Style::Plain, format!("{code}{ago}")));
    if let Some(message) = message {
        tree.more(Line::plain(format!("  {message}")));
    }
    if let Some(tracking) = tracking_id {
        tree.more(Line::of(Style::Faint, format!("  tracking id {tracking}")));
    }
    if let Some(attempts) = attempts {
        let times =
            if attempts == 1 { "once".to_owned() } else { format!("{attempts} times in a row or more") };
        tree.more(Line::plain(format!("  failed {times}")));
    }
}

fn next(next: &Next, now: Timestamp) -> Line {
    match next {
        Next::Settled => Line::plain("nothing to do"),
        Next::Suspended => {
            Line::of(Style::Waiting, "nothing while spec.suspend is true; kubectl dps resume ends that")
        }
        Next::WithIntegration => Line::of(Style::Waiting, "as soon as its integration can be used"),
        Next::Soon => Line::plain("when its turn comes"),
        Next::OnChange => Line::of(Style::Bad, "when what is wrong is changed"),
        Next::Between { earliest, latest } => {
            let (from, to) = (lasting(seconds(now, *earliest)), lasting(seconds(now, *latest)));
            let when = if earliest <= &now { format!("within {to}") } else { format!("in {from} to {to}") };
            Line::plain(format!(
                "tried again {when}, {} at the latest; kubectl dps retry tries it now",
                clock(*latest, now)
            ))
        }
    }
}

//! All that can happen to two devices in a few moves, with what can go wrong in each. Courses are tried breadth
//! first, so the first one that breaks a rule is a shortest one. Each test run tries all of one move from each
//! start, and some longer ones at random; `make explore` goes on from there.

mod course;
mod digest;
mod end;
mod fresh;
mod judge;
mod moves;
mod play;
mod search;
mod worker;

use std::str::FromStr;
use std::time::Duration;

use self::moves::{Fault, Move, Start, Step};
use self::search::{Found, at_random, breadth_first};
use self::worker::Worker;

/// Moves of a course in every run of the tests.
const DEPTH: usize = 1;
/// After this time no further course is begun, and it is printed how many were left out.
const SECONDS: u64 = 3600;
const RUNS: u64 = 20;
const LENGTH: usize = 4;
const SEED: u64 = 1;

fn setting<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn judge(found: &Found) {
    println!("{} courses in {:?}", found.courses, found.time);
    let said: Vec<String> = found.breaches.iter().take(10).map(ToString::to_string).collect();
    assert!(said.is_empty(), "{} courses break a rule:\n{}", found.breaches.len(), said.join("\n"));
}

#[test]
fn no_move_with_what_can_go_wrong_in_it_leads_two_devices_astray() {
    let seconds = Duration::from_secs(setting("EXPLORE_SECONDS", SECONDS));
    judge(&breadth_first(&Start::ALL, setting("EXPLORE_DEPTH", DEPTH), seconds));
}

#[test]
fn no_random_course_leads_two_devices_astray() {
    let seed = setting("EXPLORE_SEED", SEED);
    println!("EXPLORE_SEED={seed}");
    judge(&at_random(setting("EXPLORE_RUNS", RUNS), setting("EXPLORE_LENGTH", LENGTH), seed));
}

/// Found by longer searches.
#[test]
fn courses_that_once_broke_a_rule_break_none() {
    let [plain, held] = [None, Some(Fault::DevicesHeld)].map(|fault| move |what| Step { what, fault });
    let courses = [
        // Read before the watch shows that it has gone to another id scope: all the same the next one has its
        // registration id.
        vec![held(Move::Integration(0)), plain(Move::Slot)],
        // Declared again while another one has its registration id, and registers it with a payload of its own:
        // the Secret of before says nothing of that.
        [Move::Replaced(0), Move::Payload(1), Move::Integration(1)].map(plain).to_vec(),
        // The same, and the Secret was edited.
        [Move::Replaced(0), Move::SecretEdited(0), Move::Payload(1), Move::Replaced(1)].map(plain).to_vec(),
        // Both come into an id scope that DPS has not accepted yet.
        [
            Move::Payload(0),
            Move::IntegrationSuspended,
            Move::Integration(1),
            Move::Replaced(0),
            Move::Integration(0),
        ]
        .map(plain)
        .to_vec(),
    ];
    for steps in courses {
        let ended = Worker::new().run(Start::Rivals, &steps, |_| true);

        let breach = ended.expect("its moves can be made").breach;
        assert!(breach.is_none(), "{steps:?}: {breach:?}");
    }
}

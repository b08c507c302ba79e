//! Which courses are tried: all up to a length, breadth first, or some at random.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::course::Breach;
use super::moves::{Effects, Fault, Move, Start, Step};
use super::worker::Worker;

/// More courses that break a rule are not looked for.
const ENOUGH: usize = 5;
/// Courses that run at once.
const WORKERS: usize = 2;

/// A start, and moves after it.
#[derive(Clone, Debug)]
pub(super) struct Path {
    start: Start,
    steps: Vec<Step>,
}

impl Path {
    fn then(&self, step: Step) -> Self {
        Self { start: self.start, steps: self.steps.iter().copied().chain([step]).collect() }
    }

    fn faults(&self) -> usize {
        self.steps.iter().filter(|step| step.fault.is_some()).count()
    }

    /// It without one of its moves, or without what goes wrong in one of them.
    fn simpler(&self) -> impl Iterator<Item = Self> {
        let without = |at: usize| {
            let steps = self.steps.iter().enumerate().filter(move |(other, _)| *other != at);
            Self { start: self.start, steps: steps.map(|(_, step)| *step).collect() }
        };
        let undisturbed = |at: usize| {
            let mut steps = self.steps.clone();
            steps[at].fault.take().map(|_| Self { start: self.start, steps })
        };
        let all = 0..self.steps.len();
        all.clone().map(without).chain(all.filter_map(undisturbed))
    }
}

/// A course that breaks a rule.
pub(super) struct Broken {
    path: Path,
    breach: Breach,
}

impl Broken {
    /// It without what can be left out: each move and fault that is left is needed to break a rule.
    fn shrunk(mut self, worker: &mut Worker) -> Self {
        let mut broken = |path: Path| {
            let breach = worker.run(path.start, &path.steps, |_| true)?.breach?;
            Some(Self { path, breach })
        };
        loop {
            let simpler = self.path.simpler().find_map(&mut broken);
            let Some(simpler) = simpler else { return self };
            self = simpler;
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.path.steps.iter().map(ToString::to_string).collect();
        write!(f, "{:?}: {}\n    {}", self.path.start, steps.join(", "), self.breach.0)
    }
}

/// What a search came to.
#[derive(Default)]
pub(super) struct Found {
    pub courses: usize,
    pub time: Duration,
    pub breaches: Vec<Broken>,
}

/// What all workers share.
#[derive(Default)]
struct Shared {
    seen: Mutex<HashSet<String>>,
    courses: AtomicUsize,
    breaches: Mutex<Vec<Broken>>,
}

impl Shared {
    fn has_enough(&self) -> bool {
        self.breaches.lock().unwrap().len() >= ENOUGH
    }

    /// True for a state that was not seen before.
    fn is_new(&self, start: Start, digest: &str) -> bool {
        // The start says how many registrations there were, and nothing else that lasts.
        self.seen.lock().unwrap().insert(format!("{start:?}\n{digest}"))
    }

    /// Runs a course; returns the effects of its last move, and whether it leads to something new.
    fn run(&self, worker: &mut Worker, path: &Path) -> Option<(Effects, bool)> {
        let mut is_new = false;
        let ended = worker.run(path.start, &path.steps, |digest| {
            is_new = self.is_new(path.start, digest);
            is_new
        })?;
        self.courses.fetch_add(1, Ordering::Relaxed);
        if let Some(breach) = ended.breach {
            self.breaches.lock().unwrap().push(Broken { path: path.clone(), breach });
            return None;
        }
        Some((ended.effects, is_new))
    }

    /// All courses that are one move longer than this one, with at most one fault: those that lead to something
    /// new.
    fn expand(&self, worker: &mut Worker, path: &Path, what: Move) -> Vec<Path> {
        let mut found = Vec::new();
        let plain = path.then(Step { what, fault: None });
        let Some((effects, is_new)) = self.run(worker, &plain) else { return found };
        found.extend(is_new.then_some(plain));
        if path.faults() > 0 {
            return found;
        }
        for fault in Fault::ALL.into_iter().filter(|fault| fault.concerns(&effects)) {
            let faulty = path.then(Step { what, fault: Some(fault) });
            if self.run(worker, &faulty).is_some_and(|(_, is_new)| is_new) {
                found.push(faulty);
            }
        }
        found
    }
}

/// Works tasks off, some at once; returns what they come to in their order.
fn in_parallel<T: Sync, R: Send>(tasks: &[T], work: impl Fn(&mut Worker, &T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut worker = Worker::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(at) else { return };
                    let result = work(&mut worker, task);
                    done.lock().unwrap().push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// All courses of up to so many moves, as far as the time suffices. Ends with the first length at which one breaks
/// a rule.
pub(super) fn breadth_first(starts: &[Start], depth: usize, time: Duration) -> Found {
    let (begun, shared) = (Instant::now(), Shared::default());
    let mut paths: Vec<Path> = starts.iter().map(|start| Path { start: *start, steps: Vec::new() }).collect();
    for _ in 0..depth {
        let tasks: Vec<(Path, Move)> =
            paths.iter().flat_map(|path| Move::ALL.map(|what| (path.clone(), what))).collect();
        let left_out = AtomicUsize::new(0);
        let found = in_parallel(&tasks, |worker, (path, what)| {
            if begun.elapsed() > time || shared.has_enough() {
                left_out.fetch_add(1, Ordering::Relaxed);
                return Vec::new();
            }
            shared.expand(worker, path, *what)
        });
        paths = found.into_iter().flatten().collect();
        let left_out = left_out.into_inner();
        println!(
            "{} moves, {left_out} left out, {} new states, {:?}",
            tasks.len(),
            paths.len(),
            begun.elapsed()
        );
        if !shared.breaches.lock().unwrap().is_empty() {
            break;
        }
    }
    shared.found(begun)
}

impl Shared {
    fn found(self, begun: Instant) -> Found {
        let mut breaches = self.breaches.into_inner().unwrap();
        breaches.sort_by_key(|broken| broken.path.steps.len());
        Found { courses: self.courses.into_inner(), time: begun.elapsed(), breaches }
    }
}

/// Numbers that look like chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % limit as u64).unwrap()
    }

    fn step(&mut self) -> Step {
        let what = Move::ALL[self.below(Move::ALL.len())];
        let is_faulty = self.below(2) == 0;
        Step { what, fault: is_faulty.then(|| Fault::ALL[self.below(Fault::ALL.len())]) }
    }
}

/// So many courses of so many moves, any of which may go wrong. Those that break a rule are shrunk.
pub(super) fn at_random(runs: u64, length: usize, seed: u64) -> Found {
    let (begun, shared) = (Instant::now(), Shared::default());
    let runs: Vec<u64> = (0..runs).collect();
    in_parallel(&runs, |worker, run| {
        let mut chance = Chance(seed.wrapping_mul(1_000_003).wrapping_add(*run));
        let start = Start::ALL[chance.below(Start::ALL.len())];
        let steps = (0..length).map(|_| chance.step()).collect();
        shared.run(worker, &Path { start, steps });
    });
    let found = shared.found(begun);
    let mut worker = Worker::new();
    Found { breaches: found.breaches.into_iter().map(|broken| broken.shrunk(&mut worker)).collect(), ..found }
}

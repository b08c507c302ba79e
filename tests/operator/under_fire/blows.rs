//! What can happen at a side effect, and which cases are made of it.

use std::time::Duration;

use dps_dev::Signal;

use super::is_thorough;
use crate::world::proxy::{Action, Moment, Side};

/// How long a frozen process stands still.
const FREEZE: Duration = Duration::from_secs(1);

/// The n-th request of a kind that concerns the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub side: Side,
    pub call: String,
    pub nth: usize,
}

impl Point {
    /// An integration counts its devices now and then: how often varies.
    pub fn is_certain(&self) -> bool {
        self.call != "update dpsintegrations/status"
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Kill(Moment),
    /// It is asked to end, which it does in good order.
    End(Moment),
    Freeze(Moment),
    /// It is carried out, and its answer lost.
    Lose,
}

impl Blow {
    const ALL: [Self; 10] = [
        Self::Kill(Moment::Before),
        Self::Kill(Moment::Forwarded),
        Self::Kill(Moment::Answered),
        Self::End(Moment::Before),
        Self::End(Moment::Forwarded),
        Self::End(Moment::Answered),
        Self::Freeze(Moment::Before),
        Self::Freeze(Moment::Forwarded),
        Self::Freeze(Moment::Answered),
        Self::Lose,
    ];
    /// Those that leave most room for mistakes.
    const HARDEST: [Self; 2] = [Self::Kill(Moment::Forwarded), Self::Lose];

    pub fn action(self) -> Action {
        match self {
            Self::Kill(moment) => Action::Kill(moment),
            Self::End(moment) => Action::Signal(moment, Signal::Terminate),
            Self::Freeze(moment) => Action::Freeze(moment, FREEZE),
            Self::Lose => Action::Lose,
        }
    }

    /// The process is over after it.
    pub fn ends(self) -> bool {
        matches!(self, Self::Kill(_) | Self::End(_))
    }
}

/// One run of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub first: (&'a Point, Blow),
    /// What happens after that, should it come to this.
    pub then: Option<(&'a Point, Blow)>,
    /// From the first blow on no watch shows anything for a while.
    pub is_stale: bool,
}

impl<'a> Case<'a> {
    /// All that can happen at one point; the hardest also with watches that lag behind, and at two points one
    /// after the other. Otherwise one of each of these.
    pub fn all(points: &'a [Point]) -> Vec<Self> {
        let single = if is_thorough() { &Blow::ALL[..] } else { &Blow::HARDEST };
        let stale: Vec<Self> =
            at_each(points, &Blow::HARDEST).map(|case| Self { is_stale: true, ..case }).collect();
        let pairs: Vec<Self> = points.iter().enumerate().flat_map(|(at, _)| pairs(&points[at..])).collect();
        let most = if is_thorough() { usize::MAX } else { 1 };
        let further = stale.into_iter().take(most).chain(pairs.into_iter().take(most));
        at_each(points, single).chain(further).collect()
    }
}

fn at_each<'a>(points: &'a [Point], blows: &'static [Blow]) -> impl Iterator<Item = Case<'a>> {
    let firsts = points.iter().flat_map(|point| blows.iter().map(move |blow| (point, *blow)));
    firsts.map(|first| Case { first, then: None, is_stale: false })
}

/// A blow at the first of these points, and one at it or a later one.
fn pairs(points: &[Point]) -> impl Iterator<Item = Case<'_>> {
    at_each(&points[..1], &Blow::HARDEST).flat_map(move |case| {
        at_each(points, &Blow::HARDEST).map(move |then| Case { then: Some(then.first), ..case })
    })
}

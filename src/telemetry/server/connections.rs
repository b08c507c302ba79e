//! Which connections a listener keeps, and which one is closed for another.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many connections there may be at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub all: usize,
    pub of_one_peer: usize,
}

#[derive(Debug)]
struct Connection<H> {
    /// Set once it has sent a whole request.
    asked: Arc<AtomicBool>,
    handle: H,
}

/// One peer, whichever family the listener knows it by, and the number of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    peer: IpAddr,
    number: u64,
}

/// The open connections. Each new one is admitted: a peer with too many loses its oldest silent one,
/// and when there are too many of all, the peer that has most does. A flood comes through here, so
/// nothing takes longer the more there are.
#[derive(Debug)]
pub struct Connections<H> {
    limits: Limits,
    numbered: u64,
    open: usize,
    /// By their numbers: the oldest first.
    peers: HashMap<IpAddr, BTreeMap<u64, Connection<H>>>,
}

impl<H> Connections<H> {
    pub fn new(limits: Limits) -> Self {
        Self { limits, numbered: 0, open: 0, peers: HashMap::new() }
    }

    /// The place of the next connection.
    pub fn place(&mut self, peer: IpAddr) -> Place {
        self.numbered += 1;
        Place { peer: peer.to_canonical(), number: self.numbered }
    }

    /// Takes one in; returns the one to close for it.
    pub fn admit(&mut self, place: Place, asked: Arc<AtomicBool>, handle: H) -> Option<H> {
        let of_peer = self.peers.get(&place.peer).map_or(0, BTreeMap::len);
        let closed = if of_peer >= self.limits.of_one_peer {
            self.close_one_of(place.peer)
        } else if self.open >= self.limits.all {
            self.make_room()
        } else {
            None
        };
        self.peers.entry(place.peer).or_default().insert(place.number, Connection { asked, handle });
        self.open += 1;
        closed
    }

    /// Takes out one of the peer that has most; among equals of the one that has been here longest.
    pub fn make_room(&mut self) -> Option<H> {
        let rank = |of_peer: &BTreeMap<u64, Connection<H>>| {
            (of_peer.len(), std::cmp::Reverse(of_peer.first_key_value().map(|(number, _)| *number)))
        };
        let (peer, _) = self.peers.iter().max_by_key(|(_, of_peer)| rank(of_peer))?;
        self.close_one_of(*peer)
    }

    /// Forgets one that has ended; it may be gone already.
    pub fn remove(&mut self, place: Place) -> Option<H> {
        let of_peer = self.peers.get_mut(&place.peer)?;
        let removed = of_peer.remove(&place.number)?;
        if of_peer.is_empty() {
            self.peers.remove(&place.peer);
        }
        self.open -= 1;
        Some(removed.handle)
    }

    /// The oldest that has not asked, else the oldest.
    fn close_one_of(&mut self, peer: IpAddr) -> Option<H> {
        let of_peer = self.peers.get(&peer)?;
        let silent = of_peer.iter().find(|(_, connection)| !connection.asked.load(Ordering::Relaxed));
        let (number, _) = silent.or_else(|| of_peer.first_key_value())?;
        self.remove(Place { peer, number: *number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "10.0.0.1";
    const B: &str = "10.0.0.2";
    const C: &str = "fd00::3";

    /// Opens these, each a peer and whether it has asked; they are numbered from 0.
    fn opened(limits: Limits, peers: &[(&str, bool)]) -> (Connections<usize>, Vec<Option<usize>>) {
        let mut connections = Connections::new(limits);
        let closed = peers.iter().enumerate().map(|(number, (peer, asked))| {
            let place = connections.place(peer.parse().unwrap());
            connections.admit(place, Arc::new(AtomicBool::new(*asked)), number)
        });
        let closed = closed.collect();
        (connections, closed)
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_one_that_deserves_it_least() {
        let limits = Limits { all: 4, of_one_peer: 3 };
        let (silent, asked) = (false, true);
        let mapped = "::ffff:10.0.0.1";
        for (what, peers, closed) in [
            ("there is room", vec![(A, silent), (B, silent), (A, silent), (B, silent)], None),
            (
                "the oldest of a peer's own",
                vec![(B, silent), (A, silent), (A, silent), (A, silent), (A, asked)],
                Some(1),
            ),
            ("its oldest silent one", vec![(A, asked), (A, asked), (A, silent), (A, silent)], Some(2)),
            (
                "one that has asked, if all have",
                vec![(A, asked), (A, asked), (A, asked), (A, silent)],
                Some(0),
            ),
            (
                "of whom there are most",
                vec![(B, silent), (A, asked), (A, silent), (A, silent), (B, silent)],
                Some(2),
            ),
            (
                "not of a peer with few",
                vec![(B, silent), (C, silent), (A, asked), (A, asked), (B, silent)],
                Some(2),
            ),
            (
                "the oldest of many peers",
                vec![(A, silent), (B, silent), (C, silent), ("fd00::4", silent), ("fd00::5", silent)],
                Some(0),
            ),
            (
                "one peer under two spellings",
                vec![(A, silent), (mapped, silent), (A, silent), (mapped, silent)],
                Some(0),
            ),
        ] {
            let (connections, all) = opened(limits, &peers);
            assert_eq!(*all.last().unwrap(), closed, "{what}");
            assert!(all[..all.len() - 1].iter().all(Option::is_none), "{what}: {all:?}");
            let open: usize = connections.peers.values().map(BTreeMap::len).sum();
            assert!(open <= limits.all && open == connections.open, "{what}");
        }
    }

    #[test]
    fn what_has_ended_leaves_room() {
        let (mut connections, _) = opened(Limits { all: 2, of_one_peer: 2 }, &[(A, false), (A, false)]);
        let first = Place { peer: A.parse().unwrap(), number: 1 };
        assert_eq!(connections.remove(first), Some(0));
        assert_eq!(connections.remove(first), None);
        let third = connections.place(first.peer);
        assert_eq!(connections.admit(third, Arc::default(), 2), None);
        assert_eq!(connections.make_room(), Some(1));
        assert_eq!(connections.make_room(), Some(2));
        assert_eq!((connections.make_room(), connections.open, connections.peers.len()), (None, 0, 0));
    }
}

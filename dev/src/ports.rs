use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};

use crate::error::Error;

/// The ports are below the range for outgoing connections: a port that was free stays free until
/// its server listens, and while that server is restarted.
const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;

/// A number that differs between control planes that start at the same moment.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// `N` different free ports of 127.0.0.1.
pub(crate) fn free<const N: usize>() -> Result<[u16; N], Error> {
    let span = usize::from(LAST - FIRST) + 1;
    let begin = random() as usize % span;
    let mut ports = [0; N];
    let mut candidates = (0..span).map(|step| FIRST + ((begin + step) % span) as u16);
    for port in &mut ports {
        *port = candidates
            .find(|&candidate| TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).is_ok())
            .ok_or(Error::NoFreePort { first: FIRST, last: LAST })?;
    }
    Ok(ports)
}

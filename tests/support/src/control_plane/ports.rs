//! Ports for programs that are told where to listen.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Result, ensure};

/// Below the ports that the system gives away by itself (`net.ipv4.ip_local_port_range` begins at 32768). A port of those may be taken by any connection
/// of another test between its choice here and its use.
const PORTS: Range<u16> = 10_000..32_000;

/// How many are tried for one that is free.
const TRIES: usize = 1_000;

/// Those that this process has given away.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Ports of loopback that nobody listens on now, each given away once by this process. They are random, for other processes choose too.
///
/// # Errors
/// No port can be listened on.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

/// An address on loopback with such a port.
///
/// # Errors
/// No port can be listened on.
pub fn free_address() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free_port()?).into())
}

fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = (0..TRIES).map(random_port).find(|port| is_free(*port) && given.insert(*port));
    ensure!(found.is_some(), "no port of {PORTS:?} can be listened on");
    Ok(found.unwrap_or_default())
}

/// The keys of each hasher are random.
fn random_port(number: usize) -> u16 {
    let places = u64::from(PORTS.end - PORTS.start);
    PORTS.start + u16::try_from(RandomState::new().hash_one(number) % places).unwrap_or_default()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
    use super::*;

    #[test]
    fn free_ports_differ_and_are_none_that_the_system_gives_away() {
        let ports: [u16; 500] = free_ports().unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 500);
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
        assert!(is_free(ports[0]));
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
        assert!(!is_free(ports[0]));
    }
}

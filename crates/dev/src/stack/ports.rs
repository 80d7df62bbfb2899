//! Ports for the servers of a stack, that stay theirs while the servers come and go.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

use anyhow::bail;

/// Outgoing connections get the ports above it by themselves, unless the kernel says otherwise.
const USUAL_FIRST_EPHEMERAL: u16 = 32_768;
/// Below it are the well-known ones, and those that people choose.
const FIRST: u16 = 20_000;
/// As many as all tests at once may need.
const ROOM: u16 = 1_000;

/// What this process has given away. Each is held by a name in the network namespace, which is
/// where ports are: other processes that ask here pass over it, and it goes with this process.
static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A loopback port on which nobody listens, and which is given to nobody else while this process
/// lives. It is none of those that the kernel gives to outgoing connections: a server that is
/// started later, or again, would find such a port taken now and then.
///
/// # Errors
/// If loopback has none.
pub fn free_port() -> anyhow::Result<u16> {
    let end = first_ephemeral();
    let count = end - FIRST;
    // Processes that start together begin at different places.
    let start = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
    for step in 0..count {
        let port = FIRST + (start + step) % count;
        let Some(name) = reserve(port) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(name);
            return Ok(port);
        }
    }
    bail!("every loopback port from {FIRST} to {} is taken", end - 1)
}

fn reserve(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("tidemark-port-{port}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

/// Where the kernel leaves no room below its own, theirs is all there is.
fn first_ephemeral() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|range| range.split_whitespace().next()?.parse().ok());
    first.filter(|first| *first >= FIRST + ROOM).unwrap_or(USUAL_FIRST_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_no_outgoing_connection_gets_it() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| (FIRST..first_ephemeral()).contains(port)));
        assert!(ports.iter().all(|port| reserve(*port).is_none()));
        assert!(ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()));
    }
}

//! Who listens on a port of this host. Before an app is started, nobody else may: its start would fail, or a stranger would
//! answer in its place and pass for it.

use std::{collections::BTreeSet, fs, io, net::Ipv6Addr};

use crate::holders::{Process, name_of};

/// Who listens, as far as we may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Those we saw, by process id, we ourselves included.
    pub found: Vec<Process>,
    /// Somebody listens whose open files we may not look at.
    pub unseen: bool,
}

impl Listeners {
    /// Whether anybody listens.
    pub fn any(&self) -> bool {
        self.unseen || !self.found.is_empty()
    }
}

/// Finds every process of this network namespace that accepts connections on a TCP port of the loopback interface, or of
/// all of them.
///
/// # Errors
/// When `/proc` cannot be looked at.
pub fn listeners(port: u16) -> io::Result<Listeners> {
    let mut sockets = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(table) => sockets.extend(table.lines().skip(1).filter_map(|line| listening(line, port))),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    let mut listeners = Listeners::default();
    if sockets.is_empty() {
        return Ok(listeners);
    }
    let names: BTreeSet<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Those of other users stay unseen; what has ended in the meantime, too.
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        let held: BTreeSet<String> = descriptors
            .flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok()?.to_str().map(str::to_owned))
            .filter(|target| names.contains(target))
            .collect();
        if !held.is_empty() {
            seen.extend(held);
            listeners.found.push(Process { pid, name: name_of(pid) });
        }
    }
    listeners.found.sort();
    listeners.unseen = seen.len() < names.len();
    Ok(listeners)
}

/// The socket of a line of `/proc/net/tcp`, when it listens on that port where this host reaches it.
/// `0: 0100007F:0BBA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 12345 1 ...`
fn listening(line: &str, port: u16) -> Option<u64> {
    /// The kernel's number of the state LISTEN (`include/net/tcp_states.h`).
    const LISTEN: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, at) = words.get(1)?.split_once(':')?;
    let is_meant = u16::from_str_radix(at, 16).ok()? == port && *words.get(3)? == LISTEN && is_local(address);
    is_meant.then(|| words.get(9)?.parse().ok()).flatten()
}

/// Whether connections to the loopback interface arrive there. Addresses stand as words of 32 bits, each as this machine
/// has it in memory.
fn is_local(address: &str) -> bool {
    let mut bytes = Vec::new();
    for word in address.as_bytes().chunks(8) {
        let Some(word) = std::str::from_utf8(word).ok().and_then(|word| u32::from_str_radix(word, 16).ok()) else {
            return true; // not understood: somebody may listen there
        };
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.as_slice() {
        [first, _, _, _] => *first == 127 || bytes == [0; 4],
        _ => match <[u8; 16]>::try_from(bytes.as_slice()).map(Ipv6Addr::from) {
            Ok(address) => {
                let mapped = address.to_ipv4_mapped();
                address.is_loopback()
                    || address.is_unspecified()
                    || mapped.is_some_and(|mapped| mapped.is_loopback() || mapped.is_unspecified())
            }
            Err(_) => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn who_listens_is_found_by_port() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue }; // a host without IPv6
            let port = listener.local_addr().unwrap().port();
            let found = listeners(port).unwrap();
            let pids: Vec<u32> = found.found.iter().map(|process| process.pid).collect();
            assert_eq!((pids.as_slice(), found.unseen), ([std::process::id()].as_slice(), false), "{address}");
            drop(listener);
            assert!(!listeners(port).unwrap().any(), "{address}");
        }
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = |address: &str, state: &str| {
            format!(
                "   0: {address}:0BBA 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0"
            )
        };
        let local = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let other = format!("{:08X}", u32::from_ne_bytes([10, 0, 0, 1]));
        assert_eq!(listening(&line(&local, "0A"), 3002), Some(4711));
        assert_eq!(listening(&line("00000000", "0A"), 3002), Some(4711));
        assert_eq!(listening(&line(&local, "01"), 3002), None, "a connection");
        assert_eq!(listening(&line(&local, "0A"), 3003), None);
        assert_eq!(listening(&line(&other, "0A"), 3002), None, "another interface");
        assert_eq!(listening("", 3002), None);
    }
}

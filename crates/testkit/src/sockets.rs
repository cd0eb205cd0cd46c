//! Finds the process at the other end of a loopback connection, using `/proc`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

/// The process among `candidates` that connected from `from` to `to`. Both ends are compared: a
/// local port may be used towards several destinations at once. Rows of closed connections have no
/// owner.
pub(crate) fn owner_of(from: SocketAddr, to: SocketAddr, candidates: &[u32]) -> Option<u32> {
    let (local, remote) = (row_address(from)?, row_address(to)?);
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().find_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let is_it =
            fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str());
        let inode = fields.get(9).filter(|inode| is_it && **inode != "0")?;
        Some((*inode).to_owned())
    })?;
    let link = format!("socket:[{inode}]");
    candidates.iter().copied().find(|pid| owns(*pid, &link))
}

/// In these files, addresses are in the machine's byte order and ports in network order.
fn row_address(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    (*address.ip() == Ipv4Addr::LOCALHOST).then(|| {
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    })
}

fn owns(pid: u32, link: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .filter_map(Result::ok)
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| target.as_os_str() == link)
}

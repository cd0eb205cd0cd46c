//! Loopback ports that no other process takes between reservation and bind.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// Below the kernel's range for outgoing connections (32768 and up), so that no outgoing connection
/// can occupy the port of a stopped server.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A reserved loopback port. A file lock keeps other test processes from using it until it is
/// dropped or the process dies.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves an unused port.
    ///
    /// # Errors
    /// The lock directory isn't writable, or all ports of the range are in use.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = std::env::temp_dir().join("synod-test-ports");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        // Processes start at different ports, so they rarely contend for a lock.
        let start = u16::try_from(std::process::id() % u32::from(COUNT))?;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_mul(37) % COUNT + step % COUNT) % COUNT;
            let lock = File::create(folder.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.number)
    }
}

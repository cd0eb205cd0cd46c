//! The pages of a process's memory.

use std::io;

/// Turns off huge pages (2 MiB) for this process. Call it first in `main`: it applies to memory
/// that is used for the first time after the call. With huge pages, a few small allocations keep a
/// whole page of 2 MiB in memory, and a member under load occupies a third more.
///
/// # Errors
/// The kernel doesn't know the request. The process only uses more memory then.
#[cfg(target_os = "linux")]
pub fn disable_huge_pages() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

/// Other systems have no such pages, or no such request.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn disable_huge_pages() -> io::Result<()> {
    Ok(())
}

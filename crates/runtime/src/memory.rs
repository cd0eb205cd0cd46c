//! The pages of a process's memory.

use std::io;

/// Makes the kernel give this process pages of 4 KiB only, not of 2 MiB. Call it first in `main`:
/// it holds for pages that are used for the first time later. With large pages, small allocations
/// all over the heap keep whole pages of 2 MiB in memory, and the process has a third more.
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

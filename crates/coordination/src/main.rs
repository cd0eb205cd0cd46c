//! `synod-coordination`: one pod of the coordination service.

use std::process::ExitCode;

/// Buffers are allocated on one thread and freed on another. The system's allocator is slow at
/// that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    synod_service::main::<synod_coordination::Pod>()
}

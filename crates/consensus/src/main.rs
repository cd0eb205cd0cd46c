//! `synod-consensus`: one member of a consensus cluster. Its command line is etcd's.

use std::process::ExitCode;

/// Buffers are taken on one thread and freed on another, where the system's allocator is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    synod_service::main::<synod_consensus::Node>()
}

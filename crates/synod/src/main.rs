//! `synod`: the one command. It runs a development cluster, talks to any etcd v3 endpoint, and
//! measures it.

mod bench;
mod cli;
mod connect;
mod dev;
mod failure;
mod kv;
mod member;
mod output;
mod status;
mod txn;

use std::process::ExitCode;

use clap::Parser as _;

/// Buffers are taken on one thread and freed on another, where the system's allocator is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

//! `synod`: the command-line tool. It runs a development cluster, uses any etcd v3 endpoint and
//! measures it, and uses the coordination service.

mod bench;
mod cli;
mod connect;
mod coordination;
mod dev;
mod elect;
mod failure;
mod held;
mod kv;
mod lock;
mod login;
mod member;
mod output;
mod status;
#[cfg(test)]
mod testing;
mod txn;
mod zk;
mod zookeeper;

use std::process::ExitCode;

use clap::Parser as _;

/// Buffers are allocated on one thread and freed on another, which is slow with the system's
/// allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

//! `synod-consensus`: one member of a consensus cluster. Its command line is etcd's.

use std::io::Write as _;
use std::process::ExitCode;

/// Buffers are taken on one thread and freed on another, where the system's allocator is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (text, code) = match synod_consensus::run(&args) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(text)) => {
            // Nobody reads it any more: nothing to do about that.
            let _closed = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error @ synod_consensus::RunError::Config(_)) => (error.to_string(), 2),
        Err(error) => (error.to_string(), 1),
    };
    let _closed = writeln!(std::io::stderr(), "synod-consensus: {text}");
    ExitCode::from(code)
}

//! The command line, and the dispatch to the modules that run the commands.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::{
    bench,
    connect::{Target, TlsFiles},
    dev, elect, kv, lock,
    login::LoginFlags,
    member,
    output::Format,
    status, zk,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: nothing was changed, or the message says what was
  2  the command line is wrong
  3  the outcome of a write is unknown: it may have happened or may still happen
  4  the key or node does not exist, or nobody leads";

/// Consensus, coordination and transactional storage: run it, use it, measure it.
#[derive(Parser)]
#[command(name = "synod", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Endpoints to talk to, separated by commas
    #[arg(
        long,
        global = true,
        env = "SYNOD_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    endpoints: Vec<String>,
    /// How long a request may take, in seconds
    #[arg(long, global = true, env = "SYNOD_TIMEOUT", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    tls: TlsFiles,
    #[command(flatten)]
    login: LoginFlags,
    /// How results are printed
    #[arg(long, short = 'o', global = true, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Run every service in this process, durable by default
    Dev(dev::Options),
    /// Read, write and watch keys
    #[command(subcommand)]
    Kv(kv::Command),
    /// List and change the cluster's members
    #[command(subcommand)]
    Member(member::Command),
    /// Hold, list and break locks of the coordination service
    #[command(subcommand)]
    Lock(lock::Command),
    /// Lead an election of the coordination service, or observe it
    #[command(subcommand)]
    Elect(elect::Command),
    /// Read and write nodes of coordination, or of ZooKeeper
    Zk(zk::Arguments),
    /// Show the status of each endpoint
    Status,
    /// Measure throughput and latency of any etcd v3 endpoint
    Bench(bench::Options),
}

#[cfg(test)]
impl Arguments {
    /// The command of `synod lock`.
    pub(crate) fn lock_command(self) -> lock::Command {
        let Command::Lock(command) = self.command else {
            panic!("not a lock command");
        };
        command
    }

    /// The command of `synod elect`.
    pub(crate) fn elect_command(self) -> elect::Command {
        let Command::Elect(command) = self.command else {
            panic!("not an elect command");
        };
        command
    }

    /// Those of `synod zk`.
    pub(crate) fn zk_arguments(self) -> zk::Arguments {
        let Command::Zk(arguments) = self.command else {
            panic!("not a zk command");
        };
        arguments
    }
}

/// Runs the command.
///
/// # Errors
/// Any error of the command. `failure::report` turns it into a message and an exit code.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Global {
        endpoints,
        timeout,
        tls,
        login,
        output,
    } = arguments.global;
    let target = Target {
        endpoints,
        timeout,
        tls,
        login,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.command {
        Command::Dev(options) => dev::run(options)?,
        Command::Kv(command) => runtime.block_on(kv::run(command, &target, output))?,
        Command::Member(command) => runtime.block_on(member::run(command, &target, output))?,
        Command::Lock(command) => return runtime.block_on(lock::run(command, &target, output)),
        Command::Elect(command) => return runtime.block_on(elect::run(command, &target, output)),
        Command::Zk(arguments) => runtime.block_on(zk::run(arguments, &target, output))?,
        Command::Status => runtime.block_on(status::run(&target, output))?,
        Command::Bench(options) => runtime.block_on(bench::run(options, &target, output))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses a positive number of seconds, which may have a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of seconds"))?;
    if value <= 0.0 {
        return Err("it must be more than zero seconds".to_owned());
    }
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_of_tls_do_not_mix_with_the_keys_of_commands() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["synod"], words].concat());
        let put = ["kv", "put", "greeting", "hello"];
        assert!(parse(&put).unwrap().global.tls.is_plaintext());
        let files = ["--cacert", "ca", "--cert", "c", "--key", "k"];
        for words in [[&put[..], &files].concat(), [&files[..], &put].concat()] {
            assert!(!parse(&words).unwrap().global.tls.is_plaintext());
        }
        for half in [&files[2..], &files[..4], &files[4..]] {
            assert!(parse(&[half, &put].concat()).is_err(), "{half:?}");
        }
    }

    #[test]
    fn seconds_are_positive() {
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("x").is_err());
        assert!(seconds("1e300").is_err());
    }
}

//! `synod zk`: nodes of the coordination service, or of ZooKeeper.

mod acl;
mod change;
mod mntr;
mod print;
mod read;
mod remove;

use clap::{Args, Subcommand};

use crate::connect::Target;
use crate::output::Format;
use crate::zookeeper::{Client, Credential, Servers};

const HELP: &str = "\
Works with pods of coordination and with servers of ZooKeeper. Each command has a session of its own,
so ephemeral nodes would be gone with the command: it creates none. Reads see all writes that were
answered before, by any server. Exit code 4: the node, or the parent of a new node, does not exist.";

#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

/// Where the servers are, and who asks.
#[derive(Args)]
struct Connect {
    /// Servers, separated by commas, and the node that paths are below: HOST:PORT,...[/CHROOT]
    #[arg(
        long,
        global = true,
        env = "SYNOD_ZOOKEEPER",
        value_name = "SERVERS",
        default_value = "127.0.0.1:2181"
    )]
    server: Servers,
    /// An identity, such as digest:USER:PASSWORD. Can be repeated
    #[arg(
        long,
        global = true,
        env = "SYNOD_ZOOKEEPER_AUTH",
        hide_env_values = true,
        value_name = "SCHEME:CREDENTIAL"
    )]
    auth: Vec<Credential>,
}

#[derive(Subcommand)]
enum Command {
    /// List the children of a node
    Ls(read::ListArguments),
    /// Print the data of a node
    Get(read::PathArgument),
    /// Print the Stat of a node
    Stat(read::PathArgument),
    /// Print the access control list of a node
    Getacl(read::PathArgument),
    /// Create a node, and print its path
    Create(change::CreateArguments),
    /// Set the data of a node
    Set(change::SetArguments),
    /// Set the access control list of a node
    Setacl(change::SetAclArguments),
    /// Delete a node
    Rm(remove::Arguments),
    /// Print the metrics of each server
    Mntr,
}

/// Runs one `zk` command.
///
/// # Errors
/// The request failed. [`crate::failure::UnknownOutcome`] if a write may have been done anyway.
pub(crate) async fn run(
    arguments: Arguments,
    target: &Target,
    format: Format,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        target.tls.is_plaintext(),
        "synod zk does not speak TLS; leave out --cacert, and name a plain port with --server"
    );
    let Connect { server, auth } = arguments.connect;
    if matches!(arguments.command, Command::Mntr) {
        return mntr::run(&server, target.timeout, format).await;
    }
    let mut client = Client::open(&server, &auth, target.timeout).await?;
    let done = match arguments.command {
        Command::Ls(arguments) => read::list(arguments, &mut client, format).await,
        Command::Get(arguments) => read::get(arguments, &mut client, format).await,
        Command::Stat(arguments) => read::stat(arguments, &mut client, format).await,
        Command::Getacl(arguments) => read::acl(arguments, &mut client, format).await,
        Command::Create(arguments) => change::create(arguments, &mut client, format).await,
        Command::Set(arguments) => change::set(arguments, &mut client, format).await,
        Command::Setacl(arguments) => change::set_acl(arguments, &mut client, format).await,
        Command::Rm(arguments) => remove::run(arguments, &mut client, format).await,
        Command::Mntr => Ok(()),
    };
    // The command counts. A session that is not closed ends by its timeout.
    drop(client.close().await);
    done
}

/// Parses a path: of a node, not of a directory.
fn path(text: &str) -> Result<String, String> {
    if text.len() > 1 && text.ends_with('/') {
        return Err("a path does not end with `/`".to_owned());
    }
    new_path(text)
}

/// Parses the path of a new node, whose name may be a number alone.
fn new_path(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("a path starts with `/`".to_owned()),
    }
}

/// Another response than the request has: the server is no ZooKeeper.
fn unexpected(response: &synod_jute::Response) -> anyhow::Error {
    anyhow::anyhow!("the server's answer does not fit the request: {response:?}")
}

#[cfg(test)]
mod tests;

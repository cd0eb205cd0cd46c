//! `synod zk create`, `set` and `setacl`.

use std::io::{self, Read as _};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use synod_jute::{
    Acl, CreateMode, CreateRequest, CreateTtlRequest, Request, Response, SetAclRequest,
    SetDataRequest,
};

use super::{acl, new_path, path, print, unexpected};
use crate::cli::seconds;
use crate::output::{self, Format, printable};
use crate::zookeeper::Client;

/// Any version.
const ANY: i32 = -1;

/// The most data that is read from standard input. Servers take 1 MiB by default.
const MAX_DATA: u64 = 64 << 20;

#[derive(Args)]
pub(crate) struct CreateArguments {
    #[arg(value_parser = new_path)]
    path: String,
    /// The data; `-` reads it from standard input. By default it is empty
    #[arg(allow_hyphen_values = true)]
    data: Option<String>,
    /// Append the next number of the parent to the name
    #[arg(long, short = 's')]
    sequential: bool,
    /// The node is deleted after its last child
    #[arg(long, conflicts_with_all = ["sequential", "ttl"])]
    container: bool,
    /// The node is deleted when it has no children and was not changed for this long, in seconds
    #[arg(long, value_parser = seconds)]
    ttl: Option<Duration>,
    /// The access control list, such as world:anyone:r,digest:USER:HASH:cdrwa
    #[arg(long, default_value = "world:anyone:cdrwa")]
    acl: acl::List,
}

#[derive(Args)]
#[command(disable_version_flag = true)] // its own --version is that of the node
pub(crate) struct SetArguments {
    #[arg(value_parser = path)]
    path: String,
    /// The data; `-` reads it from standard input
    #[arg(allow_hyphen_values = true)]
    data: String,
    /// Only if the node has this version
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,
}

#[derive(Args)]
#[command(disable_version_flag = true)] // its own --version is that of the node
pub(crate) struct SetAclArguments {
    #[arg(value_parser = path)]
    path: String,
    /// The list, such as world:anyone:r,digest:USER:HASH:cdrwa
    acl: acl::List,
    /// Only if the list has this version (aversion)
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,
}

fn data(text: String) -> anyhow::Result<Bytes> {
    if text != "-" {
        return Ok(text.into());
    }
    let mut data = Vec::new();
    let mut input = io::stdin().lock().take(MAX_DATA + 1);
    input
        .read_to_end(&mut data)
        .context("cannot read standard input")?;
    anyhow::ensure!(
        data.len() as u64 <= MAX_DATA,
        "standard input has more than {MAX_DATA} bytes, which no node takes"
    );
    Ok(data.into())
}

pub(super) async fn create(
    arguments: CreateArguments,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    let path = arguments.path;
    let request = creation(
        client.absolute(&path),
        data(arguments.data.unwrap_or_default())?,
        arguments.acl.0,
        arguments.sequential,
        arguments.container,
        arguments.ttl,
    )?;
    let response = client.call(&path, &request).await?;
    let (Response::Create2(created)
    | Response::CreateContainer(created)
    | Response::CreateTtl(created)) = response
    else {
        return Err(unexpected(&response));
    };
    let path = client.relative(&created.path);
    match format {
        Format::Json => output::json(&print::node(path, &[], &created.stat)),
        Format::Table => Ok(output::line(&printable(path.as_bytes()))?),
    }
}

fn creation(
    path: synod_jute::ByteString,
    data: Bytes,
    acl: Vec<Acl>,
    is_sequential: bool,
    is_container: bool,
    ttl: Option<Duration>,
) -> anyhow::Result<Request> {
    let (data, acl) = (Some(data), Some(acl));
    if let Some(ttl) = ttl {
        let mode = match is_sequential {
            true => CreateMode::PersistentSequentialWithTtl,
            false => CreateMode::PersistentWithTtl,
        };
        let ttl_ms = i64::try_from(ttl.as_millis()).context("--ttl is too long")?;
        anyhow::ensure!(ttl_ms > 0, "--ttl is at least a millisecond");
        return Ok(Request::CreateTtl(CreateTtlRequest {
            path,
            data,
            acl,
            flags: mode.code(),
            ttl_ms,
        }));
    }
    let mode = match (is_container, is_sequential) {
        (true, _) => CreateMode::Container,
        (false, true) => CreateMode::PersistentSequential,
        (false, false) => CreateMode::Persistent,
    };
    let request = CreateRequest {
        path,
        data,
        acl,
        flags: mode.code(),
    };
    Ok(match is_container {
        true => Request::CreateContainer(request),
        false => Request::Create2(request),
    })
}

pub(super) async fn set(
    arguments: SetArguments,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    let path = arguments.path;
    let request = Request::SetData(SetDataRequest {
        path: client.absolute(&path),
        data: Some(data(arguments.data)?),
        version: arguments.version.unwrap_or(ANY),
    });
    let response = client.call(&path, &request).await?;
    let Response::SetData(response) = response else {
        return Err(unexpected(&response));
    };
    print::changed(&path, &response.stat, format)
}

pub(super) async fn set_acl(
    arguments: SetAclArguments,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    let path = arguments.path;
    let request = Request::SetAcl(SetAclRequest {
        path: client.absolute(&path),
        acl: Some(arguments.acl.0),
        version: arguments.version.unwrap_or(ANY),
    });
    let response = client.call(&path, &request).await?;
    let Response::SetAcl(response) = response else {
        return Err(unexpected(&response));
    };
    print::changed(&path, &response.stat, format)
}

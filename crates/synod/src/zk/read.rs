//! `synod zk ls`, `get`, `stat` and `getacl`.

use clap::Args;
use serde_json::{Value, json};
use synod_jute::{
    ErrorCode, ExistsRequest, GetAclRequest, GetChildrenRequest, GetDataRequest, Request, Response,
};

use super::{acl, path, print, unexpected};
use crate::output::{self, Format, json_bytes, printable};
use crate::zookeeper::{Client, Failed};

#[derive(Args)]
pub(crate) struct PathArgument {
    #[arg(value_parser = path)]
    path: String,
}

#[derive(Args)]
pub(crate) struct ListArguments {
    #[arg(value_parser = path, default_value = "/")]
    path: String,
    /// The paths of the node and of all nodes below it
    #[arg(long, short = 'R')]
    recursive: bool,
}

pub(super) async fn list(
    arguments: ListArguments,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    client.sync().await?;
    let path = arguments.path;
    if arguments.recursive {
        return list_all(path, client, format).await;
    }
    for name in children(client, &path).await? {
        match format {
            Format::Json => output::json(&json!({"path": join(&path, &name), "name": name}))?,
            Format::Table => output::line(&printable(name.as_bytes()))?,
        }
    }
    Ok(())
}

/// Parents before children, each level sorted. Only the siblings on the way are in memory.
async fn list_all(top: String, client: &mut Client, format: Format) -> anyhow::Result<()> {
    let mut waiting = vec![top.clone()];
    while let Some(path) = waiting.pop() {
        let names = match children(client, &path).await {
            Ok(names) => names,
            // It was deleted in the meantime.
            Err(failed) if failed.code() == Some(ErrorCode::NoNode) && path != top => continue,
            Err(failed) => return Err(failed.into()),
        };
        match format {
            Format::Json => output::json(&json!({"path": path}))?,
            Format::Table => output::line(&printable(path.as_bytes()))?,
        }
        waiting.extend(names.iter().rev().map(|name| join(&path, name)));
    }
    Ok(())
}

/// The names of a node's children, sorted.
pub(super) async fn children(client: &mut Client, path: &str) -> Result<Vec<String>, Failed> {
    let request = Request::GetChildren(GetChildrenRequest {
        path: client.absolute(path),
        watch: false,
    });
    let op = request.op();
    let response = client.call(path, &request).await?;
    let Response::GetChildren(response) = response else {
        return Err(Failed::Unanswered {
            op,
            reason: unexpected(&response),
        });
    };
    let names = response.children.iter();
    let mut names: Vec<String> = names.map(ToString::to_string).collect();
    names.sort_unstable();
    Ok(names)
}

/// The path of a child.
pub(super) fn join(parent: &str, name: &str) -> String {
    match parent {
        "/" => format!("/{name}"),
        parent => format!("{parent}/{name}"),
    }
}

pub(super) async fn get(
    arguments: PathArgument,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    client.sync().await?;
    let path = arguments.path;
    let request = Request::GetData(GetDataRequest {
        path: client.absolute(&path),
        watch: false,
    });
    let response = client.call(&path, &request).await?;
    let Response::GetData(response) = response else {
        return Err(unexpected(&response));
    };
    match format {
        Format::Json => {
            // ZooKeeper tells no data from empty data.
            let data = response.data.as_deref().map_or(Value::Null, json_bytes);
            output::json(&print::node(&path, &[("data", data)], &response.stat))
        }
        Format::Table => Ok(output::line(&printable(
            response.data.as_deref().unwrap_or_default(),
        ))?),
    }
}

pub(super) async fn stat(
    arguments: PathArgument,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    client.sync().await?;
    let path = arguments.path;
    let request = Request::Exists(ExistsRequest {
        path: client.absolute(&path),
        watch: false,
    });
    let response = client.call(&path, &request).await?;
    let Response::Exists(response) = response else {
        return Err(unexpected(&response));
    };
    match format {
        Format::Json => output::json(&print::node(&path, &[], &response.stat)),
        Format::Table => {
            let fields = print::stat_fields(&response.stat).into_iter();
            let rows = fields.map(|(name, value)| vec![json!(name), value]);
            output::rows(format, &["field", "value"], rows.collect())
        }
    }
}

pub(super) async fn acl(
    arguments: PathArgument,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    client.sync().await?;
    let path = arguments.path;
    let request = Request::GetAcl(GetAclRequest {
        path: client.absolute(&path),
    });
    let response = client.call(&path, &request).await?;
    let Response::GetAcl(response) = response else {
        return Err(unexpected(&response));
    };
    for entry in &response.acl {
        match format {
            Format::Json => output::json(&json!({
                "scheme": entry.id.scheme.as_deref(),
                "id": entry.id.id.as_deref(),
                "permissions": acl::letters(entry.perms),
            }))?,
            Format::Table => output::line(&acl::print(entry))?,
        }
    }
    Ok(())
}

//! `synod zk rm`.

use anyhow::bail;
use clap::Args;
use serde_json::json;
use synod_jute::{DeleteRequest, ErrorCode, Request};

use super::{path, read};
use crate::output::{self, Format};
use crate::zookeeper::{Client, Failed};

/// How often the children of a node are looked for, if others create more meanwhile.
const MAX_LOOKS: u32 = 10;

#[derive(Args)]
#[command(disable_version_flag = true)] // its own --version is that of the node
pub(crate) struct Arguments {
    #[arg(value_parser = path)]
    path: String,
    /// Delete all nodes below it first
    #[arg(long, short = 'r', conflicts_with = "version")]
    recursive: bool,
    /// Only if the node has this version
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    version: Option<i32>,
}

pub(super) async fn run(
    arguments: Arguments,
    client: &mut Client,
    format: Format,
) -> anyhow::Result<()> {
    let path = arguments.path;
    if path == "/" {
        bail!("the root can't be deleted; name a node below it");
    }
    let deleted = match arguments.recursive {
        true => delete_all(client, path).await?,
        false => {
            delete(client, &path, arguments.version.unwrap_or(-1)).await?;
            1
        }
    };
    output::result(format, &[("deleted", json!(deleted))])
}

async fn delete(client: &mut Client, path: &str, version: i32) -> Result<(), Failed> {
    let request = Request::Delete(DeleteRequest {
        path: client.absolute(path),
        version,
    });
    client.call(path, &request).await.map(drop)
}

/// Deletes children before their parents. Only the siblings on the way are in memory.
async fn delete_all(client: &mut Client, top: String) -> anyhow::Result<u64> {
    // Another server may not know all children yet.
    client.sync().await?;
    let mut deleted = 0;
    let mut waiting = vec![(top.clone(), 0)];
    while let Some((path, looks)) = waiting.pop() {
        match delete(client, &path, -1).await {
            Ok(()) => deleted += 1,
            Err(failed) => match failed.code() {
                Some(ErrorCode::NotEmpty) if looks < MAX_LOOKS => {
                    let names = match read::children(client, &path).await {
                        Ok(names) => names,
                        Err(gone) if gone.code() == Some(ErrorCode::NoNode) => continue,
                        Err(failed) => return Err(failed.into()),
                    };
                    let children = names.iter().map(|name| (read::join(&path, name), 0));
                    let children: Vec<_> = children.collect();
                    waiting.push((path, looks + 1));
                    waiting.extend(children);
                }
                Some(ErrorCode::NotEmpty) => bail!(
                    "{path}: others create children while it is deleted; stop them, and repeat \
                     the command"
                ),
                // Somebody else deleted it, or it was a container.
                Some(ErrorCode::NoNode) if path != top || looks > 0 => {}
                Some(_) | None => return Err(failed.into()),
            },
        }
    }
    Ok(deleted)
}

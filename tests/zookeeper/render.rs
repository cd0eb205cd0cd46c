//! Messages as lines of text, without what differs between runs: zxids count from the scenario's
//! start, sessions have the names of their clients, and times are only checked.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use synod_jute::{Acl, ByteString, ErrorCode, KeeperState, OpResult, Response, Stat, WatcherEvent};

/// What names the numbers of a run.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The last zxid before the scenario.
    pub(crate) base: i64,
    /// The sessions, by client.
    pub(crate) sessions: BTreeMap<String, i64>,
    /// The time at the scenario's start, in milliseconds since 1970.
    pub(crate) started_ms: i64,
}

impl Names {
    /// The upper half of a zxid, the number of the leader's term, is left out.
    pub(crate) fn zxid(&self, zxid: i64) -> String {
        let counter = |zxid: i64| zxid & 0xffff_ffff;
        match zxid {
            0 | -1 => zxid.to_string(),
            _ => format!("{:+}", counter(zxid) - counter(self.base)),
        }
    }

    fn session(&self, id: i64) -> String {
        let known = self.sessions.iter().find(|(_, known)| **known == id);
        match known {
            Some((name, _)) => name.clone(),
            None if id == 0 => "0".to_owned(),
            None => format!("0x{id:016x}"),
        }
    }

    /// # Errors
    /// A node's times are not those of this run, nor those of a node that always existed.
    fn stat(&self, stat: &Stat) -> Result<String> {
        let plausible = (self.started_ms - 1000)..(self.started_ms + 600_000);
        ensure!(
            (stat.czxid == 0 && stat.ctime == 0) || plausible.contains(&stat.ctime),
            "ctime of {stat:?}"
        );
        ensure!(stat.mtime >= stat.ctime, "mtime of {stat:?}");
        Ok(format!(
            "czxid={} mzxid={} pzxid={} version={} cversion={} aversion={} owner={} length={} \
             children={}",
            self.zxid(stat.czxid),
            self.zxid(stat.mzxid),
            self.zxid(stat.pzxid),
            stat.version,
            stat.cversion,
            stat.aversion,
            self.session(stat.ephemeral_owner),
            stat.data_length,
            stat.num_children,
        ))
    }

    pub(crate) fn event(&self, zxid: i64, event: &WatcherEvent) -> String {
        let state = match event.state {
            KeeperState::SyncConnected => String::new(),
            KeeperState::Unknown
            | KeeperState::Disconnected
            | KeeperState::NoSyncConnected
            | KeeperState::AuthFailed
            | KeeperState::ConnectedReadOnly
            | KeeperState::SaslAuthenticated
            | KeeperState::Closed
            | KeeperState::Expired => format!(" state={:?}", event.state),
        };
        let zxid = self.zxid(zxid);
        format!("event {zxid} {:?} {}{state}", event.kind, event.path)
    }

    pub(crate) fn outcome(&self, outcome: &Result<Response, ErrorCode>) -> Result<String> {
        match outcome {
            Ok(response) => self.response(response),
            Err(error) => Ok(format!("{error:?}")),
        }
    }

    fn response(&self, response: &Response) -> Result<String> {
        Ok(match response {
            Response::Create(body) => body.path.to_string(),
            Response::Create2(body)
            | Response::CreateContainer(body)
            | Response::CreateTtl(body) => format!("{} {}", body.path, self.stat(&body.stat)?),
            Response::Exists(body) => self.stat(&body.stat)?,
            Response::SetData(body) => self.stat(&body.stat)?,
            Response::SetAcl(body) => self.stat(&body.stat)?,
            Response::GetData(body) | Response::Reconfig(body) => {
                format!("{} {}", data(body.data.as_ref()), self.stat(&body.stat)?)
            }
            Response::GetAcl(body) => format!("{} {}", acl(&body.acl), self.stat(&body.stat)?),
            Response::GetChildren(body) => sorted(&body.children),
            Response::GetChildren2(body) => {
                format!("{} {}", sorted(&body.children), self.stat(&body.stat)?)
            }
            Response::GetAllChildrenNumber(body) => format!("number={}", body.total_number),
            Response::GetEphemerals(body) => sorted(&body.ephemerals),
            Response::Sync(body) => body.path.to_string(),
            Response::Multi(body) | Response::MultiRead(body) => {
                let results = body.results.iter().map(|result| self.result(result));
                let results: Vec<_> = results.collect::<Result<_>>()?;
                format!("[{}]", results.join(" ; "))
            }
            Response::AddWatch(body) => format!("ok {}", body.err),
            Response::Sasl(body) => format!("token {}", data(body.token.as_ref())),
            Response::WhoAmI(body) => {
                let mut users: Vec<_> = body
                    .client_info
                    .iter()
                    .map(|info| format!("{}:{}", info.auth_scheme, info.user))
                    .collect();
                users.sort();
                format!("[{}]", users.join(" "))
            }
            Response::Delete
            | Response::DeleteContainer
            | Response::Ping
            | Response::Check
            | Response::CheckWatches
            | Response::RemoveWatches
            | Response::SetWatches
            | Response::SetWatches2
            | Response::Auth
            | Response::CreateSession
            | Response::CloseSession => "ok".to_owned(),
        })
    }

    fn result(&self, result: &OpResult) -> Result<String> {
        Ok(match result {
            OpResult::Error(0) => "0".to_owned(),
            OpResult::Error(code) => format!("{:?}", ErrorCode::try_from(*code)?),
            OpResult::Create(body) => format!("create {}", body.path),
            OpResult::Create2(body) => format!("create2 {} {}", body.path, self.stat(&body.stat)?),
            OpResult::Delete => "delete".to_owned(),
            OpResult::SetData(body) => format!("setData {}", self.stat(&body.stat)?),
            OpResult::Check => "check".to_owned(),
            OpResult::GetData(body) => {
                let stat = self.stat(&body.stat)?;
                format!("getData {} {stat}", data(body.data.as_ref()))
            }
            OpResult::GetChildren(body) => format!("getChildren {}", sorted(&body.children)),
        })
    }
}

fn data(data: Option<&Bytes>) -> String {
    data.map_or("null".to_owned(), |data| {
        format!("{:?}", String::from_utf8_lossy(data))
    })
}

/// Lists that come in no order.
fn sorted(names: &[ByteString]) -> String {
    let mut names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.sort_unstable();
    format!("[{}]", names.join(" "))
}

fn acl(acl: &[Acl]) -> String {
    let text =
        |text: &Option<ByteString>| text.as_ref().map_or("null".to_owned(), ToString::to_string);
    let entries: Vec<String> = acl
        .iter()
        .map(|entry| {
            let Acl { perms, id } = entry;
            format!("{perms}:{}:{}", text(&id.scheme), text(&id.id))
        })
        .collect();
    entries.join(",")
}

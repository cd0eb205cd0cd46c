//! The words of a scenario's command, and the request that they stand for.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use synod_jute::{
    Acl, AddWatchMode, AddWatchRequest, AuthPacket, ByteString, CheckVersionRequest,
    CheckWatchesRequest, CreateRequest, CreateSessionRequest, CreateTtlRequest,
    DeleteContainerRequest, DeleteRequest, ExistsRequest, GetAclRequest,
    GetAllChildrenNumberRequest, GetChildren2Request, GetChildrenRequest, GetDataRequest,
    GetEphemeralsRequest, GetSaslRequest, Id, MultiOp, MultiReadRequest, MultiRequest, ReadOp,
    ReconfigRequest, RemoveWatchesRequest, Request, SetAclRequest, SetDataRequest, SetWatches,
    SetWatches2, SyncRequest, WatcherType,
};

/// The words of a command: `name path option=value flag`.
pub(crate) struct Words<'a> {
    pub(crate) name: &'a str,
    path: Option<&'a str>,
    options: HashMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let name = words.next().context("a command has a name")?;
        let mut path = None;
        let mut options = HashMap::new();
        for word in words {
            match word.split_once('=') {
                Some((option, value)) => drop(options.insert(option, value)),
                None if path.is_none() => path = Some(word),
                None => drop(options.insert(word, "")),
            }
        }
        Ok(Self {
            name,
            path,
            options,
        })
    }

    pub(crate) fn option(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).copied()
    }

    /// The first word without a `=`; `""` is the empty one.
    pub(crate) fn path(&self) -> Result<ByteString> {
        let path = self.path.context("a path is missing")?;
        Ok(unescape(path.trim_matches('"'))?.into())
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T> {
        let Some(text) = self.option(name) else {
            return Ok(default);
        };
        let number = text.parse().ok();
        number.with_context(|| format!("{name}={text} is no number"))
    }

    fn version(&self) -> Result<i32> {
        self.number("version", -1)
    }

    fn watch(&self) -> bool {
        self.option("watch").is_some()
    }

    fn text(&self, name: &str) -> Option<ByteString> {
        self.option(name).map(ByteString::from)
    }

    /// Without the option the data is empty.
    fn data(&self) -> Result<Option<Bytes>> {
        match self.option("data") {
            Some("null") => Ok(None),
            Some(text) => Ok(Some(unescape(text)?.into())),
            None => Ok(Some(Bytes::new())),
        }
    }

    /// `perms:scheme:id`, separated by commas. Without the option, everyone has all permissions.
    fn acl(&self) -> Result<Option<Vec<Acl>>> {
        match self.option("acl") {
            None => Ok(Some(vec![Acl::open()])),
            Some("null") => Ok(None),
            Some("empty") => Ok(Some(Vec::new())),
            Some(text) => text
                .split(',')
                .map(acl_entry)
                .collect::<Result<_>>()
                .map(Some),
        }
    }

    /// Paths, separated by commas.
    fn paths(&self, name: &str) -> Vec<ByteString> {
        let text = self.option(name).unwrap_or_default();
        let paths = text.split(',').filter(|path| !path.is_empty());
        paths.map(ByteString::from).collect()
    }

    /// A zxid as it is printed: `+3` is the third after the scenario's start.
    pub(crate) fn zxid(&self, base: i64) -> Result<i64> {
        match self.option("zxid") {
            None | Some("0") => Ok(0),
            Some("max") => Ok(i64::MAX),
            Some(text) => {
                let text = text.strip_prefix('+').context("a zxid begins with +")?;
                Ok(base + text.parse::<i64>()?)
            }
        }
    }
}

/// `%41` is the character with the code 0x41, and `%{1f600}` that with the code 0x1f600.
fn unescape(text: &str) -> Result<String> {
    let mut parts = text.split('%');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = match part.strip_prefix('{') {
            Some(part) => part.split_once('}').context("%{ without }")?,
            None => part.split_at_checked(2).context("% without two digits")?,
        };
        let code = u32::from_str_radix(code, 16)?;
        all.push(char::from_u32(code).context("not a character")?);
        all.push_str(rest);
    }
    Ok(all)
}

fn acl_entry(text: &str) -> Result<Acl> {
    let mut parts = text.splitn(3, ':');
    let perms = parts.next().unwrap_or_default().parse()?;
    let mut part = || parts.next().map(ByteString::from);
    let (scheme, id) = (part(), part());
    let id = Id { scheme, id };
    Ok(Acl { perms, id })
}

fn create(words: &Words<'_>) -> Result<CreateRequest> {
    Ok(CreateRequest {
        path: words.path()?,
        data: words.data()?,
        acl: words.acl()?,
        flags: words.number("flags", 0)?,
    })
}

fn create_ttl(words: &Words<'_>) -> Result<CreateTtlRequest> {
    let CreateRequest {
        path, data, acl, ..
    } = create(words)?;
    let flags = words.number("flags", 5)?;
    let ttl_ms = words.number("ttl", 1000)?;
    Ok(CreateTtlRequest {
        path,
        data,
        acl,
        flags,
        ttl_ms,
    })
}

fn multi_op(text: &str) -> Result<MultiOp> {
    let words = Words::new(text)?;
    Ok(match words.name {
        "create" => MultiOp::Create(create(&words)?),
        "create2" => MultiOp::Create2(create(&words)?),
        "createContainer" => MultiOp::CreateContainer(create(&words)?),
        "createTTL" => MultiOp::CreateTtl(create_ttl(&words)?),
        "delete" => MultiOp::Delete(DeleteRequest {
            path: words.path()?,
            version: words.version()?,
        }),
        "setData" => MultiOp::SetData(SetDataRequest {
            path: words.path()?,
            data: words.data()?,
            version: words.version()?,
        }),
        "check" => MultiOp::Check(CheckVersionRequest {
            path: words.path()?,
            version: words.version()?,
        }),
        other => bail!("{other} can't be part of a multi"),
    })
}

fn read_op(text: &str) -> Result<ReadOp> {
    let words = Words::new(text)?;
    let (path, watch) = (words.path()?, words.watch());
    Ok(match words.name {
        "getData" => ReadOp::GetData(GetDataRequest { path, watch }),
        "getChildren" => ReadOp::GetChildren(GetChildrenRequest { path, watch }),
        other => bail!("{other} can't be part of a multiRead"),
    })
}

/// The parts of a multi, which are separated by semicolons.
fn parts<T>(text: &str, name: &str, part: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let text = text.strip_prefix(name).unwrap_or(text);
    let texts = text.split(';').filter(|text| !text.trim().is_empty());
    texts.map(part).collect()
}

/// The request that a command stands for; `None` if it is no request.
pub(crate) fn request(text: &str, base: i64) -> Result<Option<Request>> {
    let words = Words::new(text)?;
    let request = match words.name {
        "create" => Request::Create(create(&words)?),
        "create2" => Request::Create2(create(&words)?),
        "createContainer" => Request::CreateContainer(create(&words)?),
        "createTTL" => Request::CreateTtl(create_ttl(&words)?),
        "delete" => Request::Delete(DeleteRequest {
            path: words.path()?,
            version: words.version()?,
        }),
        "setData" => Request::SetData(SetDataRequest {
            path: words.path()?,
            data: words.data()?,
            version: words.version()?,
        }),
        "setACL" => Request::SetAcl(SetAclRequest {
            path: words.path()?,
            acl: words.acl()?,
            version: words.version()?,
        }),
        "check" => Request::Check(CheckVersionRequest {
            path: words.path()?,
            version: words.version()?,
        }),
        "multi" => Request::Multi(MultiRequest {
            ops: parts(text, "multi", multi_op)?,
        }),
        "multiRead" => Request::MultiRead(MultiReadRequest {
            ops: parts(text, "multiRead", read_op)?,
        }),
        "reconfig" => Request::Reconfig(ReconfigRequest {
            joining_servers: words.text("joining"),
            leaving_servers: words.text("leaving"),
            new_members: words.text("members"),
            cur_config_id: words.number("config", -1)?,
        }),
        _ => return other_request(&words, base),
    };
    Ok(Some(request))
}

/// Requests that don't change the tree.
fn other_request(words: &Words<'_>, base: i64) -> Result<Option<Request>> {
    let watch = words.watch();
    Ok(Some(match words.name {
        "exists" => Request::Exists(ExistsRequest {
            path: words.path()?,
            watch,
        }),
        "getData" => Request::GetData(GetDataRequest {
            path: words.path()?,
            watch,
        }),
        "getChildren" => Request::GetChildren(GetChildrenRequest {
            path: words.path()?,
            watch,
        }),
        "getChildren2" => Request::GetChildren2(GetChildren2Request {
            path: words.path()?,
            watch,
        }),
        "getACL" => Request::GetAcl(GetAclRequest {
            path: words.path()?,
        }),
        "getAllChildrenNumber" => Request::GetAllChildrenNumber(GetAllChildrenNumberRequest {
            path: words.path()?,
        }),
        "getEphemerals" => Request::GetEphemerals(GetEphemeralsRequest {
            prefix_path: words.path.map(|_| words.path()).transpose()?,
        }),
        "sync" => Request::Sync(SyncRequest {
            path: words.path()?,
        }),
        "deleteContainer" => Request::DeleteContainer(DeleteContainerRequest {
            path: words.path()?,
        }),
        "createSession" => Request::CreateSession(CreateSessionRequest {
            timeout_ms: words.number("timeout", 5000)?,
        }),
        "ping" => Request::Ping,
        "whoAmI" => Request::WhoAmI,
        "closeSession" => Request::CloseSession,
        "auth" => Request::Auth(AuthPacket {
            kind: 0,
            scheme: Some(words.path()?),
            auth: words.data()?,
        }),
        "sasl" => Request::Sasl(GetSaslRequest {
            token: words.data()?.unwrap_or_default(),
        }),
        _ => return watch_request(words, base),
    }))
}

fn watch_request(words: &Words<'_>, base: i64) -> Result<Option<Request>> {
    Ok(Some(match words.name {
        "checkWatches" => Request::CheckWatches(CheckWatchesRequest {
            path: words.path()?,
            kind: watcher_type(words)?,
        }),
        "removeWatches" => Request::RemoveWatches(RemoveWatchesRequest {
            path: words.path()?,
            kind: watcher_type(words)?,
        }),
        "addWatch" => Request::AddWatch(AddWatchRequest {
            path: words.path()?,
            mode: match words.option("recursive") {
                Some(_) => AddWatchMode::PersistentRecursive,
                None => AddWatchMode::Persistent,
            },
        }),
        "setWatches" => Request::SetWatches(SetWatches {
            relative_zxid: words.zxid(base)?,
            data_watches: words.paths("data"),
            exist_watches: words.paths("exist"),
            child_watches: words.paths("child"),
        }),
        "setWatches2" => Request::SetWatches2(SetWatches2 {
            relative_zxid: words.zxid(base)?,
            data_watches: words.paths("data"),
            exist_watches: words.paths("exist"),
            child_watches: words.paths("child"),
            persistent_watches: words.paths("persistent"),
            persistent_recursive_watches: words.paths("recursive"),
        }),
        _ => return Ok(None),
    }))
}

fn watcher_type(words: &Words<'_>) -> Result<WatcherType> {
    let kind = words.option("kind").context("a kind is missing")?;
    let known = WatcherType::ALL.iter().copied();
    known
        .into_iter()
        .find(|known| format!("{known:?}") == kind)
        .with_context(|| format!("{kind} is no kind of watch"))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|letter| *letter != '_').collect();
    digits
        .chunks(2)
        .map(|pair| {
            let pair: String = pair.iter().collect();
            u8::from_str_radix(&pair, 16).with_context(|| format!("{pair} in {text}"))
        })
        .collect()
}

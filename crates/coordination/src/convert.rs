//! ZooKeeper's wire types to those of the state machine, and back. Wire types stop here.

use bytes::Bytes;
use bytestring::ByteString;
use synod_coordination_core as core;
use synod_coordination_core::{
    CreateMode, EventKind, Id, Kind, Notification, Op, OpError, Perms, Refused, Reply,
    WatchSelector,
};
use synod_jute as jute;
use synod_jute::{ErrorCode, EventType, KeeperState, MultiOp, OpResult, Response, WatcherType};
use synod_proto::coordination::v1 as pb;

use crate::sequencing::Taken;

/// How the reply to a write looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Create,
    Create2,
    CreateContainer,
    CreateTtl,
    Delete,
    SetData,
    SetAcl,
    Multi(Vec<OpShape>),
    /// The request is refused. As in ZooKeeper that takes a transaction, so it has a place among
    /// the session's writes.
    Refused(ErrorCode),
}

/// How the result of an operation in a multi looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpShape {
    Create,
    Create2,
    Other,
}

/// TTLs that have no meaning are negative.
const NO_TTL: i64 = -1;

/// A request that changes something, as a command; `None` if it is no such request.
///
/// # Errors
/// The code to answer.
pub(crate) fn write(request: jute::Request) -> Result<Option<(Kind, Shape)>, ErrorCode> {
    use jute::Request;
    let (op, shape) = match request {
        Request::Create(request) => (create(request)?, Shape::Create),
        Request::Create2(request) => (create(request)?, Shape::Create2),
        Request::CreateContainer(request) => (container(request), Shape::CreateContainer),
        Request::CreateTtl(request) => (create_ttl(request)?, Shape::CreateTtl),
        Request::Delete(request) => (delete(&request), Shape::Delete),
        Request::SetData(request) => (set_data(request), Shape::SetData),
        Request::SetAcl(request) => {
            let op = Op::SetAcl {
                path: request.path.to_string(),
                acl: acl(request.acl),
                version: request.version,
            };
            (op, Shape::SetAcl)
        }
        Request::Multi(request) => return multi(request).map(Some),
        _ => return Ok(None),
    };
    Ok(Some((Kind::Write(op), shape)))
}

fn multi(request: jute::MultiRequest) -> Result<(Kind, Shape), ErrorCode> {
    let mut ops = Vec::with_capacity(request.ops.len());
    let mut shapes = Vec::with_capacity(request.ops.len());
    for op in request.ops {
        let (op, shape) = match op {
            // In a multi, this flag makes a container of any create.
            MultiOp::Create(request) | MultiOp::Create2(request)
                if request.flags == jute::CreateMode::Container.code() =>
            {
                (container(request), OpShape::Create2)
            }
            MultiOp::Create(request) => (create(request)?, OpShape::Create),
            MultiOp::Create2(request) => (create(request)?, OpShape::Create2),
            MultiOp::CreateContainer(request) => (container(request), OpShape::Create2),
            MultiOp::CreateTtl(request) => (create_ttl(request)?, OpShape::Create2),
            MultiOp::Delete(request) => (delete(&request), OpShape::Other),
            MultiOp::SetData(request) => (set_data(request), OpShape::Other),
            MultiOp::Check(request) => {
                let op = Op::Check {
                    path: request.path.to_string(),
                    version: request.version,
                };
                (op, OpShape::Other)
            }
        };
        ops.push(op);
        shapes.push(shape);
    }
    Ok((Kind::Multi(ops), Shape::Multi(shapes)))
}

/// Outside a multi, the flag of a container makes a persistent node, as in ZooKeeper.
fn create(request: jute::CreateRequest) -> Result<Op, ErrorCode> {
    let mode = match CreateMode::from_flag(request.flags).map_err(code)? {
        CreateMode::Container => CreateMode::Persistent,
        CreateMode::Ttl | CreateMode::TtlSequential => return Err(ErrorCode::BadArguments),
        mode => mode,
    };
    Ok(node(request.path, request.data, request.acl, mode, NO_TTL))
}

/// A sequential one if the flags say so; they say nothing else.
fn container(request: jute::CreateRequest) -> Op {
    node(
        request.path,
        request.data,
        request.acl,
        CreateMode::Container,
        NO_TTL,
    )
}

fn create_ttl(request: jute::CreateTtlRequest) -> Result<Op, ErrorCode> {
    let mode = CreateMode::from_flag(request.flags).map_err(code)?;
    if !matches!(mode, CreateMode::Ttl | CreateMode::TtlSequential) {
        // The real one ends with such a request.
        return Err(ErrorCode::BadArguments);
    }
    Ok(node(
        request.path,
        request.data,
        request.acl,
        mode,
        request.ttl_ms,
    ))
}

fn node(
    path: ByteString,
    data: Option<Bytes>,
    list: Option<Vec<jute::Acl>>,
    mode: CreateMode,
    ttl_ms: i64,
) -> Op {
    Op::Create {
        path: path.to_string(),
        data: data.map(|data| data.to_vec()),
        acl: acl(list),
        mode,
        ttl_ms,
    }
}

fn delete(request: &jute::DeleteRequest) -> Op {
    Op::Delete {
        path: request.path.to_string(),
        version: request.version,
    }
}

fn set_data(request: jute::SetDataRequest) -> Op {
    Op::SetData {
        path: request.path.to_string(),
        data: request.data.map(|data| data.to_vec()),
        version: request.version,
    }
}

/// No scheme or id is an empty one, which is not valid.
fn acl(list: Option<Vec<jute::Acl>>) -> Vec<core::Acl> {
    let entry = |acl: jute::Acl| core::Acl {
        perms: Perms::new(acl.perms),
        id: Id {
            scheme: acl.id.scheme.unwrap_or_default().to_string(),
            id: acl.id.id.unwrap_or_default().to_string(),
        },
    };
    list.into_iter().flatten().map(entry).collect()
}

pub(crate) fn wire_acl(list: Vec<core::Acl>) -> Vec<jute::Acl> {
    let entry = |acl: core::Acl| jute::Acl::new(acl.perms.bits(), acl.id.scheme, acl.id.id);
    list.into_iter().map(entry).collect()
}

pub(crate) fn wire_stat(stat: &core::Stat) -> jute::Stat {
    jute::Stat {
        czxid: stat.czxid.get(),
        mzxid: stat.mzxid.get(),
        ctime: stat.ctime_ms,
        mtime: stat.mtime_ms,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.ephemeral_owner.get(),
        data_length: stat.data_length,
        num_children: stat.num_children,
        pzxid: stat.pzxid.get(),
    }
}

pub(crate) fn event(notification: &Notification) -> jute::WatcherEvent {
    jute::WatcherEvent {
        kind: match notification.kind {
            EventKind::Created => EventType::NodeCreated,
            EventKind::Deleted => EventType::NodeDeleted,
            EventKind::DataChanged => EventType::NodeDataChanged,
            EventKind::ChildrenChanged => EventType::NodeChildrenChanged,
        },
        state: KeeperState::SyncConnected,
        path: ByteString::from(&*notification.path),
    }
}

/// The watches that a client asks about. `None`: one-time watches of data or children.
pub(crate) fn selector(kind: WatcherType) -> WatchSelector {
    use core::WatchKind::{Child, Data, Persistent, PersistentRecursive};
    match kind {
        WatcherType::Children => WatchSelector::Kind(Child),
        WatcherType::Data => WatchSelector::Kind(Data),
        WatcherType::Any => WatchSelector::Any,
        WatcherType::Persistent => WatchSelector::Kind(Persistent),
        WatcherType::PersistentRecursive => WatchSelector::Kind(PersistentRecursive),
    }
}

/// ZooKeeper's code of an error.
pub(crate) fn code(error: OpError) -> ErrorCode {
    match error {
        OpError::BadArguments => ErrorCode::BadArguments,
        OpError::NoNode => ErrorCode::NoNode,
        OpError::NoAuth => ErrorCode::NoAuth,
        OpError::BadVersion => ErrorCode::BadVersion,
        OpError::NoChildrenForEphemerals => ErrorCode::NoChildrenForEphemerals,
        OpError::NodeExists => ErrorCode::NodeExists,
        OpError::NotEmpty => ErrorCode::NotEmpty,
        OpError::SessionExpired => ErrorCode::SessionExpired,
        OpError::InvalidAcl => ErrorCode::InvalidAcl,
        OpError::SessionMoved => ErrorCode::SessionMoved,
        OpError::QuotaExceeded => ErrorCode::QuotaExceeded,
    }
}

/// The reply to a write.
///
/// # Errors
/// The code to answer.
pub(crate) fn reply(reply: Result<Reply, Refused>, shape: &Shape) -> Result<Response, ErrorCode> {
    let reply = match (reply, shape) {
        (Ok(reply), _) => reply,
        (Err(Refused::Op(error)), _) => return Err(code(error)),
        (Err(Refused::Multi { index, error }), Shape::Multi(shapes)) => {
            let results = failed_multi(shapes.len(), index, code(error));
            return Ok(Response::Multi(jute::MultiResponse { results }));
        }
        // What the log refuses is not executed, and not answered here.
        (Err(_), _) => return Err(ErrorCode::SystemError),
    };
    Ok(match (reply, shape) {
        (Reply::Created { path, .. }, Shape::Create) => {
            Response::Create(jute::CreateResponse { path: path.into() })
        }
        (Reply::Created { path, stat }, Shape::Create2) => Response::Create2(created(path, &stat)),
        (Reply::Created { path, stat }, Shape::CreateContainer) => {
            Response::CreateContainer(created(path, &stat))
        }
        (Reply::Created { path, stat }, Shape::CreateTtl) => {
            Response::CreateTtl(created(path, &stat))
        }
        (Reply::DataSet(stat), _) => Response::SetData(jute::SetDataResponse {
            stat: wire_stat(&stat),
        }),
        (Reply::AclSet(stat), _) => Response::SetAcl(jute::SetAclResponse {
            stat: wire_stat(&stat),
        }),
        (Reply::Deleted, _) => Response::Delete,
        (Reply::Multi(replies), Shape::Multi(shapes)) => {
            let results = replies.into_iter().zip(shapes);
            let results = results
                .map(|(reply, shape)| result(reply, *shape))
                .collect();
            Response::Multi(jute::MultiResponse { results })
        }
        (Reply::Done, Shape::Refused(code)) => return Err(*code),
        // The command was larger than the log takes.
        (Reply::Done, _) => return Err(ErrorCode::BadArguments),
        (_, _) => return Err(ErrorCode::SystemError),
    })
}

fn created(path: String, stat: &core::Stat) -> jute::Create2Response {
    jute::Create2Response {
        path: path.into(),
        stat: wire_stat(stat),
    }
}

fn result(reply: Reply, shape: OpShape) -> OpResult {
    match (reply, shape) {
        (Reply::Created { path, .. }, OpShape::Create) => {
            OpResult::Create(jute::CreateResponse { path: path.into() })
        }
        (Reply::Created { path, stat }, _) => OpResult::Create2(created(path, &stat)),
        (Reply::DataSet(stat), _) => OpResult::SetData(jute::SetDataResponse {
            stat: wire_stat(&stat),
        }),
        (Reply::Deleted, _) => OpResult::Delete,
        (Reply::Checked, _) => OpResult::Check,
        // Not in a multi.
        (Reply::AclSet(_) | Reply::Multi(_) | Reply::Done, _) => {
            OpResult::Error(ErrorCode::SystemError.code())
        }
    }
}

/// Zero before the operation that failed, its code, and another code behind it.
fn failed_multi(count: usize, failed: usize, error: ErrorCode) -> Vec<OpResult> {
    let result = |index: usize| match index.cmp(&failed) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => error.code(),
        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.code(),
    };
    (0..count).map(result).map(OpResult::Error).collect()
}

/// What the leading pod did with commands; `None` if it is of a later release.
pub(crate) fn taken(taken: Option<pb::forward_response::Taken>) -> Option<Taken> {
    use pb::forward_response::Taken as Wire;
    Some(match taken? {
        Wire::All(_) => Taken::All,
        Wire::Before(number) => Taken::Before(number),
        Wire::Unregistered(_) => Taken::Unregistered,
        Wire::NotLeading(_) => Taken::NotLeading,
    })
}

/// The reverse of [`taken`].
pub(crate) fn wire_taken(taken: Taken) -> pb::forward_response::Taken {
    use pb::forward_response::Taken as Wire;
    match taken {
        Taken::All => Wire::All(true),
        Taken::Before(number) => Wire::Before(number),
        Taken::Unregistered => Wire::Unregistered(true),
        Taken::NotLeading => Wire::NotLeading(true),
    }
}

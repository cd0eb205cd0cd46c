//! ZooKeeper's wire types to those of the state machine, and back. Wire types stop here.

mod writes;

use bytestring::ByteString;
use synod_coordination_core as core;
use synod_coordination_core::{
    EventKind, Notification, OpError, Refused, Reply, SetWatches, WatchSelector, Zxid,
};
use synod_jute as jute;
use synod_jute::{ErrorCode, EventType, KeeperState, OpResult, Response, WatcherType};
use synod_proto::coordination::v1 as pb;

pub(crate) use self::writes::{Offered, OpShape, Refusal, Shape, unreadable, write};
use crate::sequencing::Taken;

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

/// The watches that a client had on another connection.
pub(crate) fn set_watches(request: &jute::SetWatches) -> SetWatches {
    SetWatches {
        relative: Zxid::new(request.relative_zxid),
        data: owned(&request.data_watches),
        exist: owned(&request.exist_watches),
        child: owned(&request.child_watches),
        ..SetWatches::default()
    }
}

/// The same of all kinds.
pub(crate) fn set_watches2(request: &jute::SetWatches2) -> SetWatches {
    SetWatches {
        relative: Zxid::new(request.relative_zxid),
        data: owned(&request.data_watches),
        exist: owned(&request.exist_watches),
        child: owned(&request.child_watches),
        persistent: owned(&request.persistent_watches),
        recursive: owned(&request.persistent_recursive_watches),
    }
}

fn owned(paths: &[ByteString]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
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

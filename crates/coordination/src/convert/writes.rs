//! Requests that change something, as commands.
//!
//! Where ZooKeeper refuses a request before its state machine sees it, the code and whether that
//! takes a transaction are ZooKeeper's.

use bytestring::ByteString;
use synod_coordination_core as core;
use synod_coordination_core::{CreateMode, Id, Kind, Op, Perms};
use synod_jute as jute;
use synod_jute::{DecodeError, ErrorCode, MultiOp, OpCode};

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

/// A request that is refused as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// By this pod.
    Local(ErrorCode),
    /// As a write: that takes a transaction.
    Transaction(ErrorCode),
}

/// TTLs that have no meaning are negative.
const NO_TTL: i64 = -1;

/// A TTL that is not valid.
const BAD_TTL: i64 = 0;

/// The answer to a request whose body can't be read.
pub(crate) fn unreadable(op: i32, error: DecodeError) -> Refusal {
    let Ok(op) = OpCode::try_from(op) else {
        return Refusal::Local(ErrorCode::Unimplemented);
    };
    let sets = matches!(op, OpCode::SetData | OpCode::SetAcl);
    let creates_or_deletes = matches!(
        op,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
    );
    let is_null = error == DecodeError::Null;
    let is_damaged = error == DecodeError::NotUtf8;
    if sets && is_null {
        // Only their paths must not be null, and these two operations check it.
        Refusal::Transaction(ErrorCode::BadArguments)
    } else if op == OpCode::Multi || ((sets || creates_or_deletes) && (is_null || is_damaged)) {
        Refusal::Transaction(error.code())
    } else if is_read(op) && is_damaged {
        // ZooKeeper replaces the damaged characters, and finds no such node.
        Refusal::Local(ErrorCode::NoNode)
    } else {
        Refusal::Local(error.code())
    }
}

/// Whether the operation reads one node.
fn is_read(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::GetAllChildrenNumber
    )
}

/// A request that changes something, as a command; `None` if it is no such request. `offered` says
/// how clients can show who they are.
///
/// # Errors
/// The answer.
pub(crate) fn write(
    request: jute::Request,
    offered: Offered,
) -> Result<Option<(Kind, Shape)>, Refusal> {
    let Some((mut kind, shape)) = command(request)? else {
        return Ok(None);
    };
    match &mut kind {
        Kind::Write(op) => refuse_unavailable(op, offered),
        Kind::Multi(ops) => ops
            .iter_mut()
            .for_each(|op| refuse_unavailable(op, offered)),
        // What sessions and pods do has no lists.
        Kind::CreateSession { .. }
        | Kind::AttachSession { .. }
        | Kind::CloseSession
        | Kind::Reap { .. }
        | Kind::SetConfig { .. }
        | Kind::ExpireSession { .. }
        | Kind::RegisterPod { .. }
        | Kind::ForgetPod { .. }
        | Kind::Nothing => {}
    }
    Ok(Some((kind, shape)))
}

/// By which schemes clients can show who they are, besides those that are always there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offered {
    /// Logins with SASL.
    pub(crate) sasl: bool,
    /// Certificates.
    pub(crate) x509: bool,
}

/// Makes entries of access control lists invalid whose scheme is none by which clients can show who
/// they are: they would permit nothing. ZooKeeper refuses schemes that it is not configured for.
fn refuse_unavailable(op: &mut Op, offered: Offered) {
    if let Op::Create { acl, .. } | Op::SetAcl { acl, .. } = op {
        let schemes = acl.iter_mut().map(|entry| &mut entry.id.scheme);
        for scheme in schemes.filter(|scheme| match scheme.as_str() {
            "sasl" => !offered.sasl,
            "x509" => !offered.x509,
            _ => false,
        }) {
            scheme.clear();
        }
    }
}

fn command(request: jute::Request) -> Result<Option<(Kind, Shape)>, Refusal> {
    use jute::Request;
    let (op, shape) = match request {
        Request::Create(request) => (create(request)?, Shape::Create),
        Request::Create2(request) => (create(request)?, Shape::Create2),
        Request::CreateContainer(request) => (container(request)?, Shape::CreateContainer),
        Request::CreateTtl(request) => (create_ttl(request)?, Shape::CreateTtl),
        Request::Delete(request) => (delete(&request), Shape::Delete),
        Request::SetData(request) => (set_data(request), Shape::SetData),
        Request::SetAcl(request) => {
            let op = Op::SetAcl {
                acl: acl(&request.path, request.acl)?,
                path: request.path.to_string(),
                version: request.version,
            };
            (op, Shape::SetAcl)
        }
        Request::Multi(request) => return multi(request).map(Some),
        Request::DeleteContainer(_)
        | Request::Exists(_)
        | Request::GetData(_)
        | Request::GetAcl(_)
        | Request::GetChildren(_)
        | Request::GetChildren2(_)
        | Request::GetAllChildrenNumber(_)
        | Request::GetEphemerals(_)
        | Request::Sync(_)
        | Request::Check(_)
        | Request::MultiRead(_)
        | Request::Reconfig(_)
        | Request::CheckWatches(_)
        | Request::RemoveWatches(_)
        | Request::AddWatch(_)
        | Request::SetWatches(_)
        | Request::SetWatches2(_)
        | Request::Auth(_)
        | Request::Sasl(_)
        | Request::CreateSession(_)
        | Request::Ping
        | Request::WhoAmI
        | Request::CloseSession => return Ok(None),
    };
    Ok(Some((Kind::Write(op), shape)))
}

fn multi(request: jute::MultiRequest) -> Result<(Kind, Shape), Refusal> {
    if request.ops.iter().any(has_null_acl) {
        return Err(Refusal::Local(ErrorCode::MarshallingError));
    }
    let mut ops = Vec::with_capacity(request.ops.len());
    let mut shapes = Vec::with_capacity(request.ops.len());
    for op in request.ops {
        let (op, shape) = match op {
            MultiOp::Create(request) => create_in_multi(request, OpShape::Create)?,
            MultiOp::Create2(request) => create_in_multi(request, OpShape::Create2)?,
            MultiOp::CreateContainer(request) => (container(request)?, OpShape::Create2),
            MultiOp::CreateTtl(request) => create_ttl_in_multi(request)?,
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

/// ZooKeeper fails to read a multi with a null list. An empty one is an operation's error.
fn has_null_acl(op: &MultiOp) -> bool {
    match op {
        MultiOp::Create(request)
        | MultiOp::Create2(request)
        | MultiOp::CreateContainer(request) => request.acl.is_none(),
        MultiOp::CreateTtl(request) => request.acl.is_none(),
        MultiOp::Delete(_) | MultiOp::SetData(_) | MultiOp::Check(_) => false,
    }
}

/// In a multi, the flag of a container makes one of any create.
fn create_in_multi(request: jute::CreateRequest, shape: OpShape) -> Result<(Op, OpShape), Refusal> {
    match request.flags == jute::CreateMode::Container.code() {
        true => Ok((container(request)?, OpShape::Create2)),
        false => Ok((create(request)?, shape)),
    }
}

/// In a multi, the flags say what is created, and the TTL counts only if they are those of a TTL.
fn create_ttl_in_multi(request: jute::CreateTtlRequest) -> Result<(Op, OpShape), Refusal> {
    let mode = CreateMode::from_flag(request.flags);
    if matches!(mode, Ok(CreateMode::Ttl | CreateMode::TtlSequential)) {
        return Ok((create_ttl(request)?, OpShape::Create2));
    }
    let create = jute::CreateRequest {
        path: request.path,
        data: request.data,
        acl: request.acl,
        flags: request.flags,
    };
    match mode {
        Ok(_) => create_in_multi(create, OpShape::Create),
        // The whole multi is not refused: this operation fails.
        Err(_) => Ok((node(create, CreateMode::Ttl, BAD_TTL)?, OpShape::Create2)),
    }
}

/// Outside a multi, the flag of a container makes a persistent node, as in ZooKeeper.
fn create(request: jute::CreateRequest) -> Result<Op, Refusal> {
    let mode = match CreateMode::from_flag(request.flags) {
        Ok(CreateMode::Container) => CreateMode::Persistent,
        Ok(CreateMode::Ttl | CreateMode::TtlSequential) | Err(_) => return Err(bad_arguments()),
        Ok(mode) => mode,
    };
    node(request, mode, NO_TTL)
}

/// A sequential one if the flags say so; they say nothing else.
fn container(request: jute::CreateRequest) -> Result<Op, Refusal> {
    let mode = CreateMode::container(request.flags).map_err(|_| bad_arguments())?;
    node(request, mode, NO_TTL)
}

fn create_ttl(request: jute::CreateTtlRequest) -> Result<Op, Refusal> {
    let mode = match CreateMode::from_flag(request.flags) {
        Ok(mode @ (CreateMode::Ttl | CreateMode::TtlSequential)) => mode,
        // The real one ends with such a request if the TTL is negative.
        _ => return Err(bad_arguments()),
    };
    let ttl_ms = request.ttl_ms;
    let create = jute::CreateRequest {
        path: request.path,
        data: request.data,
        acl: request.acl,
        flags: request.flags,
    };
    node(create, mode, ttl_ms)
}

fn node(request: jute::CreateRequest, mode: CreateMode, ttl_ms: i64) -> Result<Op, Refusal> {
    Ok(Op::Create {
        acl: acl(&request.path, request.acl)?,
        path: request.path.to_string(),
        data: request.data.map(|data| data.to_vec()),
        mode,
        ttl_ms,
    })
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

/// A list, to be checked by the state machine: without a scheme, an entry is not valid.
///
/// # Errors
/// An id is null. ZooKeeper finds that after it has looked for a slash in the path.
fn acl(path: &ByteString, list: Option<Vec<jute::Acl>>) -> Result<Vec<core::Acl>, Refusal> {
    let entry = |acl: jute::Acl| {
        let scheme = acl.id.scheme.unwrap_or_default();
        let id = match acl.id.id {
            Some(id) => id.to_string(),
            None if matches!(&*scheme, "world" | "digest") && path.contains('/') => {
                return Err(Refusal::Transaction(ErrorCode::MarshallingError));
            }
            None => String::new(),
        };
        let scheme = scheme.to_string();
        let id = Id { scheme, id };
        let perms = Perms::new(acl.perms);
        Ok(core::Acl { perms, id })
    };
    list.into_iter().flatten().map(entry).collect()
}

fn bad_arguments() -> Refusal {
    Refusal::Transaction(ErrorCode::BadArguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_requests_are_answered_as_zookeeper_does() {
        use ErrorCode::{BadArguments, MarshallingError, NoNode, Unimplemented};
        use Refusal::{Local, Transaction};
        let truncated = DecodeError::Truncated { needed: 4, left: 0 };
        for (op, error, expected) in [
            (99, truncated, Local(Unimplemented)),
            (OpCode::Create.code(), truncated, Local(MarshallingError)),
            (
                OpCode::Create.code(),
                DecodeError::Null,
                Transaction(MarshallingError),
            ),
            (
                OpCode::Create.code(),
                DecodeError::NotUtf8,
                Transaction(BadArguments),
            ),
            (
                OpCode::SetData.code(),
                DecodeError::Null,
                Transaction(BadArguments),
            ),
            (
                OpCode::SetAcl.code(),
                DecodeError::Null,
                Transaction(BadArguments),
            ),
            (
                OpCode::Multi.code(),
                truncated,
                Transaction(MarshallingError),
            ),
            (
                OpCode::GetData.code(),
                DecodeError::Null,
                Local(MarshallingError),
            ),
            (OpCode::GetData.code(), DecodeError::NotUtf8, Local(NoNode)),
        ] {
            assert_eq!(unreadable(op, error), expected, "{op} {error}");
        }
    }
}

//! Random messages.

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::{BoxedStrategy, Union};

use crate::*;

const BOOLS: &[bool] = &[false, true];

fn text() -> impl Strategy<Value = ByteString> {
    prop_oneof![Just(String::new()), "[a-z/0-9]{1,20}", "\\PC{0,5}",].prop_map(ByteString::from)
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..40).prop_map(Bytes::from))
}

fn texts() -> impl Strategy<Value = Vec<ByteString>> {
    vec(text(), 0..4)
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let entry = (any::<i32>(), option::of(text()), option::of(text()));
    let entry = entry.prop_map(|(perms, scheme, id)| Acl {
        perms,
        id: Id { scheme, id },
    });
    vec(entry, 0..3)
}

fn stat() -> impl Strategy<Value = Stat> {
    let longs = any::<[i64; 6]>();
    let ints = any::<[i32; 5]>();
    (longs, ints).prop_map(|(longs, ints)| Stat {
        czxid: longs[0],
        mzxid: longs[1],
        ctime: longs[2],
        mtime: longs[3],
        version: ints[0],
        cversion: ints[1],
        aversion: ints[2],
        ephemeral_owner: longs[4],
        data_length: ints[3],
        num_children: ints[4],
        pzxid: longs[5],
    })
}

fn create() -> impl Strategy<Value = CreateRequest> {
    let flags = select(&[0, 1, 2, 3, 4][..]);
    (text(), data(), option::of(acl()), flags).prop_map(|(path, data, acl, flags)| CreateRequest {
        path,
        data,
        acl,
        flags,
    })
}

fn create_ttl() -> impl Strategy<Value = CreateTtlRequest> {
    (create(), any::<i32>(), any::<i64>()).prop_map(|(create, flags, ttl_ms)| CreateTtlRequest {
        path: create.path,
        data: create.data,
        acl: create.acl,
        flags,
        ttl_ms,
    })
}

fn delete() -> impl Strategy<Value = DeleteRequest> {
    (text(), any::<i32>()).prop_map(|(path, version)| DeleteRequest { path, version })
}

fn set_data() -> impl Strategy<Value = SetDataRequest> {
    (text(), data(), any::<i32>()).prop_map(|(path, data, version)| SetDataRequest {
        path,
        data,
        version,
    })
}

fn check() -> impl Strategy<Value = CheckVersionRequest> {
    (text(), any::<i32>()).prop_map(|(path, version)| CheckVersionRequest { path, version })
}

fn multi_op() -> impl Strategy<Value = MultiOp> {
    prop_oneof![
        create().prop_map(MultiOp::Create),
        create().prop_map(MultiOp::Create2),
        create().prop_map(MultiOp::CreateContainer),
        create_ttl().prop_map(MultiOp::CreateTtl),
        delete().prop_map(MultiOp::Delete),
        set_data().prop_map(MultiOp::SetData),
        check().prop_map(MultiOp::Check),
    ]
}

fn read_op() -> impl Strategy<Value = ReadOp> {
    let get_data = |(path, watch)| ReadOp::GetData(GetDataRequest { path, watch });
    let get_children = |(path, watch)| ReadOp::GetChildren(GetChildrenRequest { path, watch });
    prop_oneof![
        (text(), any::<bool>()).prop_map(get_data),
        (text(), any::<bool>()).prop_map(get_children),
    ]
}

fn op_result() -> impl Strategy<Value = OpResult> {
    let created = |(path, stat)| OpResult::Create2(Create2Response { path, stat });
    let read = |(data, stat)| OpResult::GetData(GetDataResponse { data, stat });
    let listed = |children| OpResult::GetChildren(GetChildrenResponse { children });
    prop_oneof![
        any::<i32>().prop_map(OpResult::Error),
        text().prop_map(|path| OpResult::Create(CreateResponse { path })),
        (text(), stat()).prop_map(created),
        Just(OpResult::Delete),
        stat().prop_map(|stat| OpResult::SetData(SetDataResponse { stat })),
        Just(OpResult::Check),
        (data(), stat()).prop_map(read),
        texts().prop_map(listed),
    ]
}

fn results() -> impl Strategy<Value = MultiResponse> {
    vec(op_result(), 0..4).prop_map(|results| MultiResponse { results })
}

fn set_watches2() -> impl Strategy<Value = SetWatches2> {
    let lists = (texts(), texts(), texts(), texts(), texts());
    (any::<i64>(), lists).prop_map(|(relative_zxid, lists)| SetWatches2 {
        relative_zxid,
        data_watches: lists.0,
        exist_watches: lists.1,
        child_watches: lists.2,
        persistent_watches: lists.3,
        persistent_recursive_watches: lists.4,
    })
}

fn set_watches() -> impl Strategy<Value = SetWatches> {
    set_watches2().prop_map(|all| SetWatches {
        relative_zxid: all.relative_zxid,
        data_watches: all.data_watches,
        exist_watches: all.exist_watches,
        child_watches: all.child_watches,
    })
}

fn reconfig() -> impl Strategy<Value = Request> {
    let texts = (option::of(text()), option::of(text()), option::of(text()));
    (texts, any::<i64>()).prop_map(|(texts, cur_config_id)| {
        Request::Reconfig(ReconfigRequest {
            joining_servers: texts.0,
            leaving_servers: texts.1,
            new_members: texts.2,
            cur_config_id,
        })
    })
}

fn auth() -> impl Strategy<Value = Request> {
    let fields = (any::<i32>(), option::of(text()), data());
    fields.prop_map(|(kind, scheme, auth)| Request::Auth(AuthPacket { kind, scheme, auth }))
}

fn of_path(make: fn(ByteString) -> Request) -> BoxedStrategy<Request> {
    text().prop_map(make).boxed()
}

/// Of a path and one of `values`.
fn of_path_and<T: Copy + std::fmt::Debug + 'static>(
    values: &'static [T],
    make: fn(ByteString, T) -> Request,
) -> BoxedStrategy<Request> {
    let fields = (text(), select(values));
    fields
        .prop_map(move |(path, value)| make(path, value))
        .boxed()
}

/// Requests of one operation.
pub(super) fn request_of(op: OpCode) -> BoxedStrategy<Request> {
    match op {
        OpCode::Create => create().prop_map(Request::Create).boxed(),
        OpCode::Create2 => create().prop_map(Request::Create2).boxed(),
        OpCode::CreateContainer => create().prop_map(Request::CreateContainer).boxed(),
        OpCode::CreateTtl => create_ttl().prop_map(Request::CreateTtl).boxed(),
        OpCode::Delete => delete().prop_map(Request::Delete).boxed(),
        OpCode::SetData => set_data().prop_map(Request::SetData).boxed(),
        OpCode::Check => check().prop_map(Request::Check).boxed(),
        OpCode::SetAcl => (text(), option::of(acl()), any::<i32>())
            .prop_map(|(path, acl, version)| Request::SetAcl(SetAclRequest { path, acl, version }))
            .boxed(),
        OpCode::Exists => of_path_and(BOOLS, |path, watch| {
            Request::Exists(ExistsRequest { path, watch })
        }),
        OpCode::GetData => of_path_and(BOOLS, |path, watch| {
            Request::GetData(GetDataRequest { path, watch })
        }),
        OpCode::GetChildren => of_path_and(BOOLS, |path, watch| {
            Request::GetChildren(GetChildrenRequest { path, watch })
        }),
        OpCode::GetChildren2 => of_path_and(BOOLS, |path, watch| {
            Request::GetChildren2(GetChildren2Request { path, watch })
        }),
        OpCode::DeleteContainer => {
            of_path(|path| Request::DeleteContainer(DeleteContainerRequest { path }))
        }
        OpCode::GetAcl => of_path(|path| Request::GetAcl(GetAclRequest { path })),
        OpCode::GetAllChildrenNumber => {
            of_path(|path| Request::GetAllChildrenNumber(GetAllChildrenNumberRequest { path }))
        }
        OpCode::Sync => of_path(|path| Request::Sync(SyncRequest { path })),
        OpCode::Multi => vec(multi_op(), 0..4)
            .prop_map(|ops| Request::Multi(MultiRequest { ops }))
            .boxed(),
        OpCode::MultiRead => vec(read_op(), 0..4)
            .prop_map(|ops| Request::MultiRead(MultiReadRequest { ops }))
            .boxed(),
        OpCode::Reconfig => reconfig().boxed(),
        OpCode::CheckWatches => of_path_and(WatcherType::ALL, |path, kind| {
            Request::CheckWatches(CheckWatchesRequest { path, kind })
        }),
        OpCode::RemoveWatches => of_path_and(WatcherType::ALL, |path, kind| {
            Request::RemoveWatches(RemoveWatchesRequest { path, kind })
        }),
        OpCode::AddWatch => of_path_and(AddWatchMode::ALL, |path, mode| {
            Request::AddWatch(AddWatchRequest { path, mode })
        }),
        OpCode::SetWatches => set_watches().prop_map(Request::SetWatches).boxed(),
        OpCode::SetWatches2 => set_watches2().prop_map(Request::SetWatches2).boxed(),
        OpCode::Auth => auth().boxed(),
        OpCode::Sasl => data()
            .prop_map(|token| {
                let token = token.unwrap_or_default();
                Request::Sasl(GetSaslRequest { token })
            })
            .boxed(),
        OpCode::GetEphemerals => option::of(text())
            .prop_map(|prefix_path| Request::GetEphemerals(GetEphemeralsRequest { prefix_path }))
            .boxed(),
        OpCode::CreateSession => any::<i32>()
            .prop_map(|timeout_ms| Request::CreateSession(CreateSessionRequest { timeout_ms }))
            .boxed(),
        OpCode::Ping => Just(Request::Ping).boxed(),
        OpCode::WhoAmI => Just(Request::WhoAmI).boxed(),
        OpCode::CloseSession => Just(Request::CloseSession).boxed(),
    }
}

/// Responses of one operation.
pub(super) fn response_of(op: OpCode) -> BoxedStrategy<Response> {
    let created = (text(), stat()).prop_map(|(path, stat)| Create2Response { path, stat });
    let read = (data(), stat()).prop_map(|(data, stat)| GetDataResponse { data, stat });
    match op {
        OpCode::Create => text()
            .prop_map(|path| Response::Create(CreateResponse { path }))
            .boxed(),
        OpCode::Create2 => created.prop_map(Response::Create2).boxed(),
        OpCode::CreateContainer => created.prop_map(Response::CreateContainer).boxed(),
        OpCode::CreateTtl => created.prop_map(Response::CreateTtl).boxed(),
        OpCode::GetData => read.prop_map(Response::GetData).boxed(),
        OpCode::Reconfig => read.prop_map(Response::Reconfig).boxed(),
        OpCode::Exists => stat()
            .prop_map(|stat| Response::Exists(ExistsResponse { stat }))
            .boxed(),
        OpCode::SetData => stat()
            .prop_map(|stat| Response::SetData(SetDataResponse { stat }))
            .boxed(),
        OpCode::SetAcl => stat()
            .prop_map(|stat| Response::SetAcl(SetAclResponse { stat }))
            .boxed(),
        OpCode::GetAcl => (acl(), stat())
            .prop_map(|(acl, stat)| Response::GetAcl(GetAclResponse { acl, stat }))
            .boxed(),
        OpCode::GetChildren => texts()
            .prop_map(|children| Response::GetChildren(GetChildrenResponse { children }))
            .boxed(),
        OpCode::GetChildren2 => (texts(), stat())
            .prop_map(|(children, stat)| {
                Response::GetChildren2(GetChildren2Response { children, stat })
            })
            .boxed(),
        OpCode::GetAllChildrenNumber => any::<i32>()
            .prop_map(|total_number| {
                Response::GetAllChildrenNumber(GetAllChildrenNumberResponse { total_number })
            })
            .boxed(),
        OpCode::GetEphemerals => texts()
            .prop_map(|ephemerals| Response::GetEphemerals(GetEphemeralsResponse { ephemerals }))
            .boxed(),
        OpCode::Sync => text()
            .prop_map(|path| Response::Sync(SyncResponse { path }))
            .boxed(),
        OpCode::Multi => results().prop_map(Response::Multi).boxed(),
        OpCode::MultiRead => results().prop_map(Response::MultiRead).boxed(),
        OpCode::AddWatch => any::<i32>()
            .prop_map(|err| Response::AddWatch(ErrorResponse { err }))
            .boxed(),
        OpCode::Sasl => data()
            .prop_map(|token| Response::Sasl(SetSaslResponse { token }))
            .boxed(),
        OpCode::WhoAmI => vec((text(), text()), 0..3)
            .prop_map(|ids| {
                let client_info = ids
                    .into_iter()
                    .map(|(auth_scheme, user)| ClientInfo { auth_scheme, user })
                    .collect();
                Response::WhoAmI(WhoAmIResponse { client_info })
            })
            .boxed(),
        OpCode::Delete => Just(Response::Delete).boxed(),
        OpCode::DeleteContainer => Just(Response::DeleteContainer).boxed(),
        OpCode::Ping => Just(Response::Ping).boxed(),
        OpCode::Check => Just(Response::Check).boxed(),
        OpCode::CheckWatches => Just(Response::CheckWatches).boxed(),
        OpCode::RemoveWatches => Just(Response::RemoveWatches).boxed(),
        OpCode::SetWatches => Just(Response::SetWatches).boxed(),
        OpCode::SetWatches2 => Just(Response::SetWatches2).boxed(),
        OpCode::Auth => Just(Response::Auth).boxed(),
        OpCode::CreateSession => Just(Response::CreateSession).boxed(),
        OpCode::CloseSession => Just(Response::CloseSession).boxed(),
    }
}

/// Requests of all operations.
pub(super) fn request() -> impl Strategy<Value = Request> {
    Union::new(OpCode::ALL.iter().map(|op| request_of(*op)))
}

/// Responses of all operations.
pub(super) fn response() -> impl Strategy<Value = Response> {
    Union::new(OpCode::ALL.iter().map(|op| response_of(*op)))
}

/// Events of all kinds.
pub(super) fn event() -> impl Strategy<Value = WatcherEvent> {
    let (kind, state) = (select(EventType::ALL), select(KeeperState::ALL));
    (kind, state, text()).prop_map(|(kind, state, path)| WatcherEvent { kind, state, path })
}

/// Connect requests of old and new clients.
pub(super) fn connect_request() -> impl Strategy<Value = ConnectRequest> {
    let numbers = (any::<i32>(), any::<i64>(), any::<i32>(), any::<i64>());
    (numbers, data(), option::of(any::<bool>())).prop_map(|(numbers, password, read_only)| {
        ConnectRequest {
            protocol_version: numbers.0,
            last_zxid_seen: numbers.1,
            timeout_ms: numbers.2,
            session_id: numbers.3,
            password,
            read_only,
        }
    })
}

/// Connect responses to old and new clients.
pub(super) fn connect_response() -> impl Strategy<Value = ConnectResponse> {
    connect_request().prop_map(|request| ConnectResponse {
        protocol_version: request.protocol_version,
        timeout_ms: request.timeout_ms,
        session_id: request.session_id,
        password: request.password,
        read_only: request.read_only,
    })
}

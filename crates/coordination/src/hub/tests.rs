//! The hub over a log in memory.

use std::net::SocketAddr;

use bytes::Bytes;
use bytestring::ByteString;
use synod_coordination_core::{
    Now, OutboxLimits, Outcome, Sequencer, SequencerLimits, check_identities,
};
use synod_jute::{
    Acl, AuthPacket, ConnectRequest, ConnectResponse, CreateRequest, Decode as _, FrameDecoder,
    OpCode, PASSWORD_LEN, Request, RequestHeader, Response, ServerMessage, SyncRequest, xid,
};

use super::*;
use crate::sasl::Login;

const TIMEOUT_MS: u32 = 10_000;

/// A pod that leads, whose log is in memory.
struct World {
    hub: Arc<Hub>,
    sequencer: Sequencer,
    /// Of the connections that are opened.
    login: Login,
}

impl World {
    fn new() -> Self {
        let limits = OutboxLimits {
            commands: 1_000,
            bytes: 1 << 20,
            command_bytes: 1 << 20,
        };
        let hub = Arc::new(Hub::new(limits, None));
        hub.caught_up();
        hub.serve(true);
        let limits = SequencerLimits {
            batch_commands: 100,
            batch_bytes: 1 << 20,
            waiting_commands: 1_000,
            waiting_bytes: 1 << 20,
        };
        let sequencer = Sequencer::new(hub.start(None), limits);
        let mut world = Self {
            hub,
            sequencer,
            login: Login::default(),
        };
        world.execute();
        world
    }

    /// Appends and applies all commands.
    fn execute(&mut self) {
        for command in self.hub.take_commands(1_000) {
            self.sequencer.submit(command).unwrap();
        }
        let now = Now {
            wall_ms: 1_000,
            monotonic_ms: 1_000,
        };
        while self.sequencer.next_action(now).is_some() {
            let (number, batch) = self.sequencer.appended(Outcome::Appended).unwrap();
            self.hub.apply(number, &batch).unwrap();
        }
    }

    /// Reads the log's end for all who wait.
    fn read_end(&self) {
        while let Some(read) = self.hub.begin_sync() {
            self.hub.end_sync(read, self.hub.applied());
        }
    }

    fn connect(&self, session: i64, password: &[u8]) -> Client {
        let out = Arc::new(Outgoing::default());
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            subject: None,
            login: self.login.clone(),
        };
        let id = self.hub.open(Arc::clone(&out), peer);
        let request = ConnectRequest {
            session_id: session,
            password: Some(Bytes::copy_from_slice(password)),
            ..ConnectRequest::default()
        };
        self.hub.connect(id, &request, TIMEOUT_MS).unwrap();
        Client {
            hub: Arc::clone(&self.hub),
            id,
            out,
            frames: FrameDecoder::new(1 << 20),
        }
    }

    /// A client with a new session.
    async fn open(&mut self) -> (Client, ConnectResponse) {
        let mut client = self.connect(0, &[0; PASSWORD_LEN]);
        self.execute();
        let session = client.session().await.unwrap();
        (client, session)
    }

    fn exists(&self, path: &str) -> bool {
        self.hub
            .with_machine(|machine| machine.exists(path, &[]).is_ok())
    }
}

struct Client {
    hub: Arc<Hub>,
    id: ConnectionId,
    out: Arc<Outgoing>,
    frames: FrameDecoder,
}

impl Client {
    fn send(&self, xid: i32, op: OpCode, request: Request) {
        let header = RequestHeader { xid, op: op.code() };
        self.hub.request(self.id, header, Ok(request)).unwrap();
    }

    fn create(&self, xid: i32, path: &str) {
        let request = Request::Create(CreateRequest {
            path: path.into(),
            data: None,
            acl: Some(vec![Acl::new(31, "world", "anyone")]),
            flags: 0,
        });
        self.send(xid, OpCode::Create, request);
    }

    fn sync(&self, xid: i32) {
        let path = ByteString::from("/");
        self.send(xid, OpCode::Sync, Request::Sync(SyncRequest { path }));
    }

    /// What was sent to the client so far.
    async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Some(frame);
            }
            let next = self.out.next();
            tokio::pin!(next);
            let std::task::Poll::Ready(Some(bytes)) = futures::poll!(next) else {
                return None;
            };
            self.frames.buffer().extend_from_slice(&bytes);
        }
    }

    async fn session(&mut self) -> Option<ConnectResponse> {
        let mut frame = self.frame().await?;
        Some(ConnectResponse::decode(&mut frame).unwrap())
    }

    /// The replies so far: each one's xid, and the path of a created node.
    async fn replies(&mut self) -> Vec<(i32, String)> {
        let mut replies = Vec::new();
        while let Some(frame) = self.frame().await {
            if let ServerMessage::Reply { header, mut body } = ServerMessage::decode(frame).unwrap()
            {
                let created = Response::decode(OpCode::Create, &mut body);
                let path = match created {
                    Ok(Response::Create(created)) => created.path.to_string(),
                    _ => format!("error {}", header.err),
                };
                replies.push((header.xid, path));
            }
        }
        replies
    }
}

/// The leading pod has given up a session: its client must not go on as if it lived.
#[tokio::test]
async fn a_client_whose_signs_of_life_came_too_late_is_disconnected() {
    let mut world = World::new();
    let (late, session) = world.open().await;
    let (other, _) = world.open().await;
    let touched = world.hub.take_touched();
    let late_sessions = [SessionId::new(session.session_id)];
    world.hub.touches_arrived(&touched, &late_sessions);
    assert!(late.out.next().await.is_none(), "the end");
    other.create(1, "/goes-on");
}

fn reply(xid: i32, path: &str) -> (i32, String) {
    (xid, path.to_owned())
}

/// Writes behind a sync wait for it. One that comes when the sync is done must not overtake those
/// that waited.
#[tokio::test]
async fn commands_behind_a_sync_keep_their_order() {
    let mut world = World::new();
    let (mut client, _) = world.open().await;
    client.sync(1);
    client.create(2, "/b");
    client.create(3, "/c");
    assert!(client.replies().await.is_empty());
    world.read_end();
    client.create(4, "/d");
    client.sync(5);
    client.create(6, "/e");
    world.execute();
    let written = [reply(2, "/b"), reply(3, "/c"), reply(4, "/d")];
    let replies = client.replies().await;
    assert_eq!(replies[0].0, 1);
    assert_eq!(replies[1..], written);
    assert!(!world.exists("/e"), "behind the second sync");
    world.read_end();
    world.execute();
    let replies = client.replies().await;
    assert_eq!(replies.last(), Some(&reply(6, "/e")));
}

/// A client comes back while its write is on its way: it must not miss that write.
#[tokio::test]
async fn a_client_that_comes_back_finds_what_it_wrote_before() {
    let mut world = World::new();
    let (first, session) = world.open().await;
    let password = session.password.unwrap();
    first.create(1, "/a");
    world.hub.lost(first.id);
    let mut second = world.connect(session.session_id, &password);
    world.read_end();
    assert!(second.session().await.is_none(), "/a is not executed");
    world.execute();
    assert!(world.exists("/a"));
    let again = second.session().await.unwrap();
    assert_eq!(again.session_id, session.session_id);
}

/// The log's end is read after a client has come back: the pod may be behind, and the session may
/// have gone meanwhile.
#[tokio::test]
async fn a_client_that_comes_back_waits_for_the_end_of_the_log() {
    let mut world = World::new();
    let (first, session) = world.open().await;
    let password = session.password.unwrap();
    world.hub.lost(first.id);
    let mut second = world.connect(session.session_id, &password);
    assert!(second.session().await.is_none(), "the end was not read");
    world.read_end();
    assert_eq!(
        second.session().await.unwrap().session_id,
        session.session_id
    );
}

#[tokio::test]
async fn a_connection_has_no_more_identities_than_a_command_may_carry() {
    let mut world = World::new();
    let (client, _) = world.open().await;
    for number in 0..40 {
        let request = Request::Auth(AuthPacket {
            kind: 0,
            scheme: Some("digest".into()),
            auth: Some(format!("user{number}:secret").into_bytes().into()),
        });
        // It is closed when one is refused.
        let header = RequestHeader {
            xid: xid::AUTH,
            op: OpCode::Auth.code(),
        };
        let _closed = world.hub.request(client.id, header, Ok(request));
        let state = world.hub.state.lock();
        if let Some(connection) = state.connections.get(&client.id) {
            check_identities(&connection.identities).unwrap();
        }
    }
}

mod logins;

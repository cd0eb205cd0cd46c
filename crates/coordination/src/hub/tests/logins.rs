//! What a login changes, and when.

use synod_coordination_core::{Id, digest};
use synod_jute::{ErrorCode, GetSaslRequest};

use super::*;
use crate::sasl::tests::{answer, login, nonce};

fn sasl(token: &[u8]) -> Request {
    let token = Bytes::copy_from_slice(token);
    Request::Sasl(GetSaslRequest { token })
}

fn create_mine() -> Request {
    Request::Create(CreateRequest {
        path: "/mine".into(),
        data: None,
        acl: Some(vec![Acl::new(31, "auth", "")]),
        flags: 0,
    })
}

impl World {
    /// The first identity in a node's list.
    fn owner(&self, path: &str) -> Id {
        let everyone = [Id::new("super", "")];
        self.hub.with_machine(|machine| {
            let (list, _) = machine.acl(path, &everyone).unwrap();
            list[0].id.clone()
        })
    }
}

impl Client {
    /// The next reply: its error, and the token if it is one to SASL.
    async fn answered(&mut self) -> (i32, Option<Bytes>) {
        let frame = self.frame().await.unwrap();
        let ServerMessage::Reply { header, mut body } = ServerMessage::decode(frame).unwrap()
        else {
            panic!("not a reply");
        };
        match Response::decode(OpCode::Sasl, &mut body) {
            Ok(Response::Sasl(response)) if header.err == 0 => (0, response.token),
            _ => (header.err, None),
        }
    }

    /// Whether the pod has ended the connection.
    async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none() && !self.hub.state.lock().connections.contains_key(&self.id)
    }

    /// The first half of a login.
    async fn challenge(&mut self) -> String {
        self.send(1, OpCode::Sasl, sasl(b""));
        let (_, token) = self.answered().await;
        nonce(&token.unwrap())
    }
}

/// As in ZooKeeper, a login counts for each request that was sent after it, also if one from before
/// it is not answered yet.
#[tokio::test]
async fn a_login_counts_for_the_writes_behind_it() {
    let mut world = World::new();
    let (mut client, _) = world.open().await;
    client.create(1, "/before");
    let packet = AuthPacket {
        kind: 0,
        scheme: Some("digest".into()),
        auth: Some(Bytes::from_static(b"joe:secret")),
    };
    client.send(xid::AUTH, OpCode::Auth, Request::Auth(packet));
    client.send(2, OpCode::Create, create_mine());
    world.execute();
    let xids: Vec<_> = client
        .replies()
        .await
        .into_iter()
        .map(|(xid, _)| xid)
        .collect();
    assert_eq!(xids, [1, xid::AUTH, 2]);
    assert_eq!(world.owner("/mine"), digest("joe:secret"));
}

#[tokio::test]
async fn a_login_with_sasl_is_an_identity() {
    let mut world = World::new();
    world.login = login();
    let (mut client, _) = world.open().await;
    let nonce = client.challenge().await;
    let token = answer(&nonce, "secret", |text| text);
    client.send(2, OpCode::Sasl, sasl(token.as_bytes()));
    let (_, proof) = client.answered().await;
    assert!(proof.unwrap().starts_with(b"rspauth="));
    client.send(3, OpCode::Create, create_mine());
    world.execute();
    assert_eq!(client.answered().await.0, 0);
    assert_eq!(world.owner("/mine"), Id::new("sasl", "joe"));
}

#[tokio::test]
async fn who_has_to_log_in_can_do_nothing_before() {
    let mut world = World::new();
    world.login = login();
    let required = ErrorCode::SessionClosedRequireSaslAuth.code();
    let (mut client, _) = world.open().await;
    client.challenge().await;
    client.create(2, "/a");
    assert_eq!(client.answered().await.0, required);
    assert!(client.is_closed().await);
    world.execute();
    assert!(!world.exists("/a"));
    let (mut client, _) = world.open().await;
    client.send(1, OpCode::Ping, Request::Ping);
    assert_eq!(client.answered().await.0, required);
    let (mut client, _) = world.open().await;
    client.challenge().await;
    client.send(2, OpCode::Sasl, sasl(b"nothing=right"));
    assert_eq!(client.answered().await.0, required);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_wrong_password_ends_the_connection() {
    let mut world = World::new();
    world.login = login().optional();
    let (mut client, _) = world.open().await;
    let nonce = client.challenge().await;
    let token = answer(&nonce, "wrong", |text| text);
    client.send(2, OpCode::Sasl, sasl(token.as_bytes()));
    assert_eq!(client.answered().await.0, ErrorCode::AuthFailed.code());
    assert!(client.is_closed().await);
    let (mut client, _) = world.open().await;
    client.create(1, "/a");
    world.execute();
    assert_eq!(client.answered().await.0, 0, "it need not log in");
}

//! Replays a scenario.
//!
//! `$ a getData /` sends a request over the connection of the client `a` and waits for its reply;
//! `& a getData /` sends it only. All messages that come until the last reply follow, a line each:
//! an event's or a reply's zxid and content. Further commands are `connect`, `drop` (closes the
//! connection), `receive` (waits for one message), `raw` (sends a frame with an operation's number
//! and a body in hexadecimal digits), and `bytes` (sends what isn't even a frame). `$ ruok word`
//! sends a four-letter word over a connection of its own. `! kill 2` does something to a server:
//! see [`Server::command`]. `#` starts a comment.
//!
//! Where Synod differs on purpose, `@ zookeeper` or `@ synod` says which of the two replays the
//! lines up to the next `@`; the other one keeps them as they are. `@ both` ends that.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use synod_jute::{ConnectRequest, OpCode, PASSWORD_LEN, Request, xid};
use synod_testkit::zookeeper::{Received, ZkClient, four_letter_word};

use crate::parse::{Words, hex, request};
use crate::render::Names;
use crate::server::Server;

/// The xid of frames that are no requests.
const RAW_XID: i32 = 77;

/// Replays a scenario, and returns it with the server's answers.
pub(crate) async fn replay(server: &mut Server<'_>, scenario: &str) -> Result<String> {
    let mut run = Run::start(server).await?;
    let own = run.server.name();
    let mut is_skipped = false;
    for line in scenario.lines() {
        if let Some(who) = line.strip_prefix("@ ") {
            ensure!(["zookeeper", "synod", "both"].contains(&who), "{line}");
            is_skipped = who != "both" && who != own;
            run.print(line);
            continue;
        }
        if is_skipped {
            run.print(line);
            continue;
        }
        let kind = line.get(..2).unwrap_or_default();
        if ["$ ", "& ", "! "].contains(&kind) || line.starts_with('#') || line.is_empty() {
            run.print(line);
        }
        let done = match kind {
            "$ " | "& " => run.command(line).await,
            "! " => run.server.command(&line[2..]).await,
            _ => Ok(()),
        };
        done.with_context(|| format!("{line}\nafter:\n{}", run.text))?;
    }
    Ok(run.text)
}

struct Run<'a, 'b> {
    server: &'a mut Server<'b>,
    clients: BTreeMap<String, ZkClient>,
    /// The passwords of the clients' sessions.
    passwords: BTreeMap<String, Option<Bytes>>,
    names: Names,
    text: String,
}

impl<'a, 'b> Run<'a, 'b> {
    async fn start(server: &'a mut Server<'b>) -> Result<Self> {
        let mut first = ZkClient::open(&server.address(1)?).await?;
        let (_, closed) = first.call(&Request::CloseSession).await?;
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed()?;
        let names = Names {
            base: closed.zxid,
            started_ms: i64::try_from(since_1970.as_millis())?,
            ..Names::default()
        };
        Ok(Self {
            server,
            clients: BTreeMap::new(),
            passwords: BTreeMap::new(),
            names,
            text: String::new(),
        })
    }

    fn print(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn client(&mut self, name: &str) -> Result<&mut ZkClient> {
        let client = self.clients.get_mut(name);
        client.with_context(|| format!("the client {name} is not connected"))
    }

    async fn command(&mut self, line: &str) -> Result<()> {
        let (kind, rest) = line.split_at(2);
        let (name, command) = rest.split_once(' ').context("a client and a command")?;
        let words = Words::new(command)?;
        match words.name {
            "connect" => return self.connect(name, &words).await,
            "drop" => {
                self.clients.remove(name);
                return Ok(());
            }
            "receive" => return self.receive(name).await,
            "word" => {
                let answer = four_letter_word(&self.server.address(1)?, name).await?;
                let first = answer.lines().next().unwrap_or_default().to_owned();
                self.print(&first);
                return Ok(());
            }
            "bytes" => {
                let bytes = hex(&words.path()?)?;
                self.client(name)?.send_bytes(&bytes).await?;
                return self.receive(name).await;
            }
            "raw" => self.send_raw(name, &words).await?,
            _ => {
                let request = request(command, self.names.base)?;
                let request = request.with_context(|| format!("{command} is no command"))?;
                self.client(name)?.send(&request).await?;
            }
        }
        if kind == "& " {
            return Ok(());
        }
        while self.clients.get(name).is_some_and(ZkClient::is_waiting) {
            self.receive(name).await?;
        }
        Ok(())
    }

    /// `raw OP body=HEX`
    async fn send_raw(&mut self, name: &str, words: &Words<'_>) -> Result<()> {
        let number: i32 = words.path()?.parse()?;
        // The reply to an unknown operation is an error, so any operation will do.
        let op = OpCode::try_from(number).unwrap_or(OpCode::Ping);
        // The reply to a ping has this xid, whatever the request has.
        let xid = if op == OpCode::Ping && number == op.code() {
            xid::PING
        } else {
            RAW_XID
        };
        let mut content = Vec::new();
        content.extend(xid.to_be_bytes());
        content.extend(number.to_be_bytes());
        content.extend(hex(words.option("body").unwrap_or_default())?);
        self.client(name)?.send_frame(xid, op, &content).await
    }

    /// Waits for one message and prints it.
    async fn receive(&mut self, name: &str) -> Result<()> {
        let client = self.client(name)?;
        let received = client.receive().await?;
        let line = match received {
            Received::Event { zxid, event } => self.names.event(zxid, &event),
            Received::Reply(reply) => {
                let zxid = self.names.zxid(reply.zxid);
                let rest = match reply.rest.len() {
                    0 => String::new(),
                    len => format!(" with {len} more bytes"),
                };
                format!("{zxid} {}{rest}", self.names.outcome(&reply.outcome)?)
            }
            Received::Closed => {
                self.clients.remove(name);
                "closed".to_owned()
            }
        };
        self.print(&line);
        Ok(())
    }

    /// `connect timeout=MS session=CLIENT password=wrong|short|null readonly=yes|absent zxid=ZXID
    /// at=SERVER`
    async fn connect(&mut self, name: &str, words: &Words<'_>) -> Result<()> {
        let zeros = || Bytes::from_static(&[0; PASSWORD_LEN]);
        let mut wanted = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: words.zxid(self.names.base)?,
            timeout_ms: words.number("timeout", 30_000)?,
            session_id: words.number("id", 0)?,
            password: Some(zeros()),
            read_only: match words.option("readonly") {
                Some("absent") => None,
                other => Some(other == Some("yes")),
            },
        };
        if let Some(of) = words.option("session") {
            wanted.session_id = *self.names.sessions.get(of).context("no such session")?;
            wanted.password = self.passwords.get(of).cloned().flatten();
        }
        match words.option("password") {
            Some("wrong") => wanted.password = Some(zeros()),
            Some("short") => wanted.password = Some(Bytes::from_static(b"short")),
            Some("null") => wanted.password = None,
            _ => {}
        }
        let address = self.server.address(words.number("at", 1)?)?;
        let Some(client) = ZkClient::connect(&address, &wanted).await? else {
            self.print("closed");
            return Ok(());
        };
        let answer = client.session().clone();
        let mut known = self.names.sessions.iter();
        let what = match known.find(|(_, id)| **id == answer.session_id) {
            Some((of, _)) => format!("session of {of}"),
            None if answer.session_id == 0 => "refused".to_owned(),
            None => "new session".to_owned(),
        };
        let password = answer.password.clone().context("a password")?;
        ensure!(password.len() == PASSWORD_LEN, "password: {password:?}");
        ensure!(
            (password == zeros()) == (answer.session_id == 0),
            "password: {password:?}"
        );
        let read_only = answer
            .read_only
            .map_or("absent", |yes| if yes { "yes" } else { "no" });
        let line = format!("{what} timeout={} readonly={read_only}", answer.timeout_ms);
        self.print(&line);
        if answer.session_id != 0 {
            let sessions = &mut self.names.sessions;
            sessions.insert(name.to_owned(), answer.session_id);
            self.passwords.insert(name.to_owned(), Some(password));
        }
        self.clients.insert(name.to_owned(), client);
        Ok(())
    }
}

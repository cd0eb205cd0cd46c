//! A TCP proxy on loopback with injectable faults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::ports::Port;
use crate::sockets::owner_of;

/// The maximum number of bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;

/// How the proxy treats the bytes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Forwards everything.
    #[default]
    None,
    /// Forwards every read after a delay.
    Delay(Duration),
    /// Holds everything back until the fault ends.
    Stall,
    /// Discards everything. A connection that lost bytes is closed when the fault ends.
    Drop,
    /// Closes the server's side and leaves the client's open and silent, as after a power loss.
    HalfOpen,
    /// Closes connections, and new ones at once.
    Cut,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    default: Fault,
    /// Faults for connections opened by a certain process (by pid).
    by_source: BTreeMap<u32, Fault>,
}

impl Rules {
    fn of(&self, source: Option<u32>) -> Fault {
        source
            .and_then(|pid| self.by_source.get(&pid))
            .copied()
            .unwrap_or(self.default)
    }

    fn candidates(&self) -> Vec<u32> {
        self.by_source.keys().copied().collect()
    }
}

/// A proxy in front of one address. Dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    rules: watch::Sender<Rules>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a new port, and forwards connections to `target` (`127.0.0.1:2379`).
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: String) -> Result<Self> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind(port.address())
            .await
            .context("bind the proxy's port")?;
        let (rules, seen) = watch::channel(Rules::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, seen));
        Ok(Self {
            port,
            rules,
            _tasks: tasks,
        })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Applies a fault to all connections from now on, except those with a fault for their process.
    pub fn set(&self, fault: Fault) {
        self.rules.send_modify(|rules| rules.default = fault);
    }

    /// Applies a fault to the connections of the process `pid` from now on.
    pub fn set_for(&self, pid: u32, fault: Fault) {
        self.rules.send_modify(|rules| {
            rules.by_source.insert(pid, fault);
        });
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| *rules = Rules::default());
    }
}

async fn accept(listener: TcpListener, target: String, rules: watch::Receiver<Rules>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept error (the client has already disconnected) affects no other connection.
        let Ok((client, from)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve(client, from, target.clone(), rules.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    client: TcpStream,
    from: SocketAddr,
    target: String,
    mut rules: watch::Receiver<Rules>,
) {
    let Ok(to) = client.local_addr() else {
        return;
    };
    let mut link = Link {
        from,
        to,
        source: None,
        rules: rules.clone(),
    };
    match link.fault() {
        Fault::Cut => return,
        Fault::HalfOpen => {
            hold_open(client, &mut link).await;
            return;
        }
        Fault::None | Fault::Delay(_) | Fault::Stall | Fault::Drop => {}
    }
    let Ok(server) = TcpStream::connect(&target).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mut halves = JoinSet::new();
    let other = Link {
        from,
        to,
        source: link.source,
        rules: rules.clone(),
    };
    halves.spawn(pump(client_read, server_write, link, Side::Client));
    halves.spawn(pump(server_read, client_write, other, Side::Server));
    let mut ends = 0;
    loop {
        tokio::select! {
            // The rules first: a cut must not wait for traffic.
            biased;
            changed = rules.changed() => {
                let mut link = Link { from, to, source: None, rules: rules.clone() };
                if changed.is_err() || link.fault() == Fault::Cut {
                    return;
                }
            }
            ended = halves.join_next() => {
                ends += 1;
                if ended.is_none() || ends == 2 {
                    return;
                }
            }
        }
    }
}

struct Link {
    from: SocketAddr,
    to: SocketAddr,
    source: Option<u32>,
    rules: watch::Receiver<Rules>,
}

impl Link {
    fn fault(&mut self) -> Fault {
        let rules = self.rules.borrow_and_update().clone();
        if self.source.is_none() && !rules.by_source.is_empty() {
            self.source = owner_of(self.from, self.to, &rules.candidates());
        }
        rules.of(self.source)
    }

    async fn change(&mut self) {
        if self.rules.changed().await.is_err() {
            // The proxy is being dropped, and this task with it.
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: Link, side: Side) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lossy = false;
    loop {
        let fault = link.fault();
        if fault == Fault::Stall {
            link.change().await;
            continue;
        }
        if fault == Fault::HalfOpen {
            if side == Side::Client {
                drop(to);
                wait_for_end(&mut link, Fault::HalfOpen).await;
            } else {
                // Neither shutdown nor close reaches the client.
                drop(from);
                wait_for_end(&mut link, Fault::HalfOpen).await;
                drop(to);
            }
            return;
        }
        if lossy && fault != Fault::Drop {
            return;
        }
        let read = tokio::select! {
            // The rules first: a new rule applies to all bytes read after the change.
            biased;
            () = link.change() => continue,
            read = from.read(&mut chunk) => read,
        };
        let Ok(length @ 1..) = read else { return };
        match fault {
            Fault::Drop => {
                lossy = true;
                continue;
            }
            Fault::Delay(time) => sleep(time).await,
            Fault::None | Fault::Stall | Fault::HalfOpen | Fault::Cut => {}
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

async fn hold_open(client: TcpStream, link: &mut Link) {
    wait_for_end(link, Fault::HalfOpen).await;
    drop(client);
}

async fn wait_for_end(link: &mut Link, fault: Fault) {
    while link.fault() == fault {
        link.change().await;
    }
}

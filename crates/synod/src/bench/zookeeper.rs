//! Load for any server with ZooKeeper's protocol: sessions with several requests in flight.
//!
//! `--clients` are sessions, spread over the endpoints. A session sends its next request when an
//! answer comes, so that always the same number is in flight.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::future;
use rand::Rng as _;
use synod_jute::{
    Acl, AddWatchMode, AddWatchRequest, CreateMode, CreateRequest, GetDataRequest, Request,
    ServerMessage, SetDataRequest,
};
use synod_runtime::clock;

use super::Shape;
use super::load::{Window, value};
use super::report::{Report, Samples};
use crate::connect::Target;
use crate::zookeeper::Connection;

/// The session timeout that clients ask for.
const TIMEOUT_MS: i32 = 30_000;

/// Requests in flight while nodes are created that a workload needs.
const FILL_IN_FLIGHT: usize = 256;

/// `perms` of the list that lets everybody do everything.
const ALL: i32 = 31;

#[derive(Args, Clone, Copy)]
pub(crate) struct Options {
    /// What the clients do
    #[arg(value_enum)]
    what: What,
    /// Requests in flight for each client
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    in_flight: u16,
    /// Sessions that watch all nodes, for `watch`
    #[arg(long, default_value_t = 100)]
    watchers: u16,
    /// Skip creating the nodes, which exist already
    #[arg(long)]
    no_fill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Create the nodes that other workloads need
    Fill,
    /// Create nodes
    Create,
    /// Set the data of random nodes, which are created first
    Set,
    /// Read random nodes, which are created first
    Get,
    /// Nine reads for each write
    Mixed,
    /// Create ephemeral sequential nodes
    Sequential,
    /// Set data while sessions watch: counts events
    Watch,
    /// Open sessions that do nothing
    Idle,
}

/// Runs the workload.
///
/// # Errors
/// A server can't be reached, or refuses a request.
pub(crate) async fn run(
    shape: &Shape,
    options: Options,
    target: &Target,
) -> anyhow::Result<Report> {
    let root = format!("/{}", shape.prefix.trim_matches('/'));
    let load = Rc::new(Load {
        root,
        shape: shape.clone(),
        what: options.what,
        value: value(shape),
        unique: rand::rng().random::<u32>(),
    });
    let address = |number: usize| {
        let endpoint = &target.endpoints[number % target.endpoints.len()];
        endpoint.rsplit("//").next().unwrap_or(endpoint).to_owned()
    };
    if options.what == What::Fill {
        let began = clock::now();
        let samples = load.fill(&address(0)).await?;
        return Ok(samples.report("zookeeper-fill", 1, began.elapsed()));
    }
    if !options.no_fill && options.what != What::Idle {
        load.fill(&address(0)).await?;
    }
    let mut sessions = Vec::new();
    for number in 0..usize::from(shape.clients) {
        sessions.push(Session::open(&address(number)).await?);
    }
    let mut watchers = Vec::new();
    if options.what == What::Watch {
        for number in 0..usize::from(options.watchers) {
            let mut session = Session::open(&address(number)).await?;
            session.watch(&load.root).await?;
            watchers.push(session);
        }
    }
    let window = Window::starting_now(shape);
    let samples = Rc::new(RefCell::new(Samples::new()));
    if options.what == What::Idle {
        let idle = sessions
            .into_iter()
            .map(|session| session.idle(window, &samples));
        future::try_join_all(idle).await?;
    } else {
        // Events are what counts, if there are watchers.
        let of_requests = if options.what == What::Watch {
            Rc::default()
        } else {
            Rc::clone(&samples)
        };
        let in_flight = usize::from(options.in_flight);
        let work = sessions
            .into_iter()
            .zip(0..)
            .map(|(session, number)| session.work(&load, number, in_flight, window, &of_requests));
        let watch = watchers
            .into_iter()
            .map(|session| session.events(window, &samples));
        future::try_join(future::try_join_all(work), future::try_join_all(watch)).await?;
    }
    let samples = Rc::try_unwrap(samples)
        .map(RefCell::into_inner)
        .unwrap_or_default();
    let name = format!("zookeeper-{:?}", options.what).to_lowercase();
    Ok(samples.report(&name, shape.clients, shape.duration))
}

/// What the clients send.
struct Load {
    /// The parent of all nodes.
    root: String,
    shape: Shape,
    what: What,
    value: Bytes,
    /// Tells this run's nodes from those of another one.
    unique: u32,
}

impl Load {
    /// Creates the parent, and the nodes that the workload needs, unless they exist.
    async fn fill(&self, address: &str) -> anyhow::Result<Samples> {
        let mut session = Session::open(address).await?;
        let nodes = match self.what {
            What::Create | What::Sequential | What::Idle => 0,
            What::Fill | What::Set | What::Get | What::Mixed | What::Watch => self.shape.keys,
        };
        let parent = std::iter::once((self.root.clone(), Bytes::new()));
        let nodes = (0..nodes).map(|number| (self.path(number), self.value.clone()));
        let all: Vec<_> = parent.chain(nodes).collect();
        let mut samples = Samples::new();
        for some in all.chunks(FILL_IN_FLIGHT) {
            let sent = clock::now();
            for (path, data) in some {
                let create = create(path.clone(), data.clone(), CreateMode::Persistent);
                session.0.push(1, &create)?;
            }
            session.0.flush().await?;
            for _ in some {
                session.0.receive().await?;
                samples.succeeded(clock::now() - sent);
            }
        }
        Ok(samples)
    }

    fn path(&self, number: u32) -> String {
        format!("{}/{number:010}", self.root)
    }

    /// The request with this number of a client.
    fn request(&self, client: u32, number: u64) -> Request {
        let random = self.path(rand::rng().random_range(0..self.shape.keys));
        let data = self.value.clone();
        let set = || {
            Request::SetData(SetDataRequest {
                path: random.as_str().into(),
                data: Some(data.clone()),
                version: -1,
            })
        };
        let get = || {
            Request::GetData(GetDataRequest {
                path: random.as_str().into(),
                watch: false,
            })
        };
        match self.what {
            What::Create => {
                let path = format!("{}/{:08x}-{client}-{number}", self.root, self.unique);
                create(path, data, CreateMode::Persistent)
            }
            What::Sequential => {
                let path = format!("{}/n-", self.root);
                create(path, data, CreateMode::EphemeralSequential)
            }
            What::Mixed if rand::rng().random_range(0..10) == 0 => set(),
            What::Set | What::Watch => set(),
            What::Mixed | What::Get | What::Fill | What::Idle => get(),
        }
    }
}

fn create(path: String, data: Bytes, mode: CreateMode) -> Request {
    Request::Create(CreateRequest {
        path: path.into(),
        data: Some(data),
        acl: Some(vec![Acl::new(ALL, "world", "anyone")]),
        flags: mode.code(),
    })
}

/// A client of the load.
struct Session(Connection);

impl Session {
    async fn open(address: &str) -> anyhow::Result<Self> {
        Connection::open(address, TIMEOUT_MS).await.map(Self)
    }

    async fn watch(&mut self, path: &str) -> anyhow::Result<()> {
        let request = Request::AddWatch(AddWatchRequest {
            path: path.into(),
            mode: AddWatchMode::PersistentRecursive,
        });
        self.0.push(1, &request)?;
        self.0.flush().await?;
        let answer = self.0.receive().await?;
        let is_done = matches!(&answer, ServerMessage::Reply { header, .. } if header.err == 0);
        ensure!(is_done, "cannot watch {path}: {answer:?}");
        Ok(())
    }

    /// Keeps requests in flight until the time is over.
    async fn work(
        mut self,
        load: &Load,
        client: u32,
        in_flight: usize,
        window: Window,
        samples: &RefCell<Samples>,
    ) -> anyhow::Result<()> {
        let mut sent: VecDeque<Instant> = VecDeque::new();
        let mut number = 0;
        loop {
            let now = clock::now();
            if !window.is_over(now) {
                while sent.len() < in_flight {
                    self.0.push(1, &load.request(client, number))?;
                    number += 1;
                    sent.push_back(now);
                }
                self.0.flush().await?;
            }
            if sent.is_empty() {
                return Ok(());
            }
            let mut next = Some(self.0.frame().await?);
            let now = clock::now();
            // All that has come is counted before more is sent.
            while let Some(frame) = next {
                if let ServerMessage::Reply { header, .. } = ServerMessage::decode(frame)? {
                    let since = sent.pop_front().context("an answer to nothing")?;
                    ensure!(header.err == 0, "the server answers error {}", header.err);
                    if window.counts(now) {
                        samples.borrow_mut().succeeded(now - since);
                    }
                }
                next = self.0.arrived()?;
            }
        }
    }

    /// Counts events until the time is over. They have no latency.
    async fn events(mut self, window: Window, samples: &RefCell<Samples>) -> anyhow::Result<()> {
        loop {
            let event = clock::timeout_at(window.end(), self.0.frame()).await;
            let Ok(frame) = event else { return Ok(()) };
            let message = ServerMessage::decode(frame?)?;
            ensure!(
                matches!(message, ServerMessage::Event { .. }),
                "{message:?}"
            );
            if window.counts(clock::now()) {
                samples.borrow_mut().succeeded(Duration::ZERO);
            }
        }
    }

    /// Pings, as idle clients do, until the time is over.
    async fn idle(mut self, window: Window, samples: &RefCell<Samples>) -> anyhow::Result<()> {
        let pause = Duration::from_millis(u64::try_from(TIMEOUT_MS)? / 3);
        loop {
            let next = clock::now() + pause.mul_f64(rand::rng().random_range(0.0..1.0));
            if window.is_over(next) {
                clock::sleep_until(window.end()).await;
                return Ok(());
            }
            clock::sleep_until(next).await;
            let sent = clock::now();
            self.0.push(synod_jute::xid::PING, &Request::Ping)?;
            self.0.flush().await?;
            self.0.frame().await?;
            let now = clock::now();
            if window.counts(now) {
                samples.borrow_mut().succeeded(now - sent);
            }
        }
    }
}

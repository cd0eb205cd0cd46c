//! The port of ZooKeeper's protocol.

mod accept;
mod connection;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use synod_rpc::{BindError, Listener, ServerTls};
use synod_runtime::reload::Reloading;
use synod_runtime::shutdown::Shutdown;
use synod_service::Front;

use self::accept::{Accepting, Places};
pub use self::words::Whitelist;
use crate::convert::Offered;
use crate::hub::{Hub, Unsent};
use crate::metrics::Traffic;
use crate::sasl::{Login, Users, UsersError};
use crate::sequencing::Entrance;

/// A client must shake hands over TLS, and then send its connect request, within this time each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bounds of a session's timeout, and of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The shortest session timeout.
    pub(crate) min_session_timeout_ms: u32,
    /// The longest session timeout.
    pub(crate) max_session_timeout_ms: u32,
    /// The largest request in bytes (ZooKeeper: `jute.maxbuffer`).
    pub(crate) max_request_bytes: usize,
    /// Connections at once. Further ones are closed.
    pub(crate) max_connections: usize,
    /// Connections from one address at once (ZooKeeper: `maxClientCnxns`). Further ones are closed;
    /// zero: no limit.
    pub(crate) max_connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 4_000,
            max_session_timeout_ms: 40_000,
            max_request_bytes: synod_jute::DEFAULT_MAX_FRAME,
            max_connections: 20_000,
            max_connections_per_address: 60,
        }
    }
}

/// The sockets of the port.
pub(crate) struct Port {
    listeners: Vec<Listener>,
    with_tls: Vec<Listener>,
    tls: Option<ServerTls>,
}

impl Port {
    /// Binds the addresses, `HOST:PORT` each. Those in `with_tls` are served with `tls`.
    ///
    /// # Errors
    /// The first address that can't be bound.
    pub(crate) fn bind(
        addresses: &[String],
        with_tls: &[String],
        tls: Option<ServerTls>,
    ) -> Result<Self, BindError> {
        let bind = |addresses: &[String]| -> Result<Vec<Listener>, BindError> {
            let listeners = addresses.iter().map(|address| Listener::bind(address));
            listeners.collect()
        };
        Ok(Self {
            listeners: bind(addresses)?,
            with_tls: bind(with_tls)?,
            tls,
        })
    }

    /// The addresses without TLS, with the ports that were bound.
    pub(crate) fn addresses(&self) -> Vec<String> {
        bound(&self.listeners)
    }

    /// The addresses with TLS, with the ports that were bound.
    pub(crate) fn tls_addresses(&self) -> Vec<String> {
        bound(&self.with_tls)
    }
}

fn bound(listeners: &[Listener]) -> Vec<String> {
    let addresses = listeners.iter();
    let addresses = addresses.filter_map(|listener| listener.bound_to().tcp());
    addresses.map(|address| address.to_string()).collect()
}

/// What serves ZooKeeper's clients and operators.
pub(crate) struct Operators {
    pub(crate) hub: Arc<Hub>,
    pub(crate) limits: Limits,
    pub(crate) words: Whitelist,
    pub(crate) sasl: Sasl,
    /// Open while this pod leads.
    pub(crate) entrance: Entrance,
    pub(crate) traffic: Traffic,
    pub(crate) started: Instant,
    /// The addresses without TLS.
    pub(crate) addresses: Vec<String>,
    pub(crate) tls_addresses: Vec<String>,
}

/// How clients can log in with SASL.
#[derive(Debug, Default)]
pub(crate) struct Sasl {
    /// Without users nobody can.
    pub(crate) users: Option<Reloading<Users, UsersError>>,
    /// Clients that have not logged in are refused everything else.
    pub(crate) is_required: bool,
}

impl Sasl {
    /// The login of a new connection, by the users of this moment.
    fn login(&self) -> Login {
        let users = self.users.as_ref().map(Reloading::current);
        Login::new(users, self.is_required)
    }
}

impl Operators {
    /// What ZooKeeper calls the part that this server has. A single pod leads, too.
    fn mode(&self) -> &'static str {
        match self.entrance.enter() {
            Some(_) => "leader",
            None => "follower",
        }
    }
}

/// Accepts connections until `stop` is triggered, on the threads of `front`.
pub(crate) fn serve(port: Port, front: &Front, operators: Operators, stop: &Shutdown) {
    operators.hub.offer(Offered {
        sasl: operators.sasl.users.is_some(),
        x509: !port.with_tls.is_empty(),
    });
    operators.hub.count_in(operators.traffic.clone());
    let limits = operators.limits;
    let operators = Arc::new(operators);
    let unsent = Unsent::default();
    let places = Arc::new(Places::new(
        limits.max_connections,
        limits.max_connections_per_address,
    ));
    let plain = port.listeners.into_iter().map(|listener| (listener, None));
    let secure = port.with_tls.into_iter();
    let secure = secure.map(|listener| (listener, port.tls.clone()));
    for (listener, tls) in plain.chain(secure) {
        let Some(listener) = Listener::into_tcp(listener) else {
            continue;
        };
        let accepting = Accepting {
            places: Arc::clone(&places),
            executor: front.executor().clone(),
            operators: Arc::clone(&operators),
            unsent: unsent.clone(),
            tls,
        };
        let (stop, end) = (stop.clone(), front.ending().clone());
        front.spawn("zookeeper", async move {
            tokio::select! {
                biased; // no connection after the stop
                () = stop.triggered() => {}
                () = accepting.run(listener, end) => {}
            }
        });
    }
}

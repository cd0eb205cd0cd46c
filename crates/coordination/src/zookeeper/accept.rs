//! Accepts connections, as many as the limits allow.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use synod_rpc::ServerTls;
use synod_runtime::clock;
use synod_runtime::executor::Executor;
use synod_runtime::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};

use super::{HANDSHAKE_TIMEOUT, Operators, connection};
use crate::hub::{Peer, Unsent};

/// The pause after the system refused a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Accepts the connections of one listener.
pub(super) struct Accepting {
    pub(super) places: Arc<Places>,
    pub(super) executor: Executor,
    pub(super) operators: Arc<Operators>,
    pub(super) unsent: Unsent,
    pub(super) tls: Option<ServerTls>,
}

impl Accepting {
    pub(super) async fn run(self, listener: std::net::TcpListener, end: Shutdown) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot accept ZooKeeper's clients");
                return;
            }
        };
        loop {
            match listener.accept().await.and_then(|(stream, address)| {
                // Another thread's reactor is to watch it.
                Ok((stream.into_std()?, address))
            }) {
                Ok((stream, address)) => self.hand_over(stream, address, end.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: check the limit on open files");
                    clock::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn hand_over(&self, stream: std::net::TcpStream, address: SocketAddr, end: Shutdown) {
        let operators = Arc::clone(&self.operators);
        let place = match Places::take(&self.places, address.ip().to_canonical()) {
            Ok(place) => place,
            Err(full) => {
                operators.traffic.rejected.inc();
                tracing::warn!(%address, %full, "refused a connection");
                return;
            }
        };
        let (tls, unsent) = (self.tls.clone(), self.unsent.clone());
        drop(self.executor.spawn("zookeeper-connection", async move {
            tokio::select! {
                biased; // the stop ends all connections
                () = end.triggered() => {}
                () = serve(stream, address, tls, operators, unsent) => {}
            }
            drop(place);
        }));
    }
}

async fn serve(
    stream: std::net::TcpStream,
    address: SocketAddr,
    tls: Option<ServerTls>,
    operators: Arc<Operators>,
    unsent: Unsent,
) {
    let stream = match TcpStream::from_std(stream).and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    }) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%address, %error, "the connection ended at once");
            return;
        }
    };
    let login = operators.sasl.login();
    let Some(tls) = tls else {
        let peer = Peer {
            address,
            subject: None,
            login,
        };
        return connection::serve(stream.into_split(), peer, &operators, unsent).await;
    };
    let shaken = clock::timeout(HANDSHAKE_TIMEOUT, tls.accept_tcp(stream)).await;
    let shaken = shaken.unwrap_or_else(|_elapsed| Err(std::io::ErrorKind::TimedOut.into()));
    match shaken {
        Ok((stream, certificate)) => {
            let subject = certificate.map(|certificate| certificate.subject.to_string());
            let peer = Peer {
                address,
                subject,
                login,
            };
            connection::serve(tokio::io::split(stream), peer, &operators, unsent).await;
        }
        Err(error) => {
            operators.traffic.failed_handshakes.inc();
            tracing::debug!(%address, %error, "the TLS handshake failed");
        }
    }
}

/// Counts the connections, all together and by address.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    /// Zero: no limit.
    max_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// There are too many connections.
    #[error("there are {0} connections: raise --max-connections")]
    All(usize),
    /// This client has too many.
    #[error("{0} connections come from this address: raise --max-connections-per-address")]
    Address(usize),
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            max,
            max_per_address,
            taken: Mutex::default(),
        }
    }

    fn take(places: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let mut taken = places.taken.lock();
        if taken.total >= places.max {
            return Err(Full::All(places.max));
        }
        let limit = places.max_per_address;
        let before = taken.by_address.get(&address).copied().unwrap_or(0);
        if limit > 0 && before >= limit {
            return Err(Full::Address(limit));
        }
        taken.by_address.insert(address, before + 1);
        taken.total += 1;
        Ok(Place {
            places: Arc::clone(places),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total -= 1;
        if let Entry::Occupied(mut count) = taken.by_address.entry(self.address) {
            match count.get() {
                0 | 1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_by_address_and_all_together() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let places = Arc::new(Places::new(3, 2));
        let first = Places::take(&places, a).unwrap();
        let second = Places::take(&places, a).unwrap();
        assert_eq!(Places::take(&places, a).unwrap_err(), Full::Address(2));
        let third = Places::take(&places, b).unwrap();
        assert_eq!(Places::take(&places, c).unwrap_err(), Full::All(3));
        drop(first);
        let again = Places::take(&places, a).unwrap();
        drop((second, third, again));
        assert!(places.taken.lock().by_address.is_empty());
        assert_eq!(places.taken.lock().total, 0);
    }

    #[test]
    fn zero_is_no_limit_by_address() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let places = Arc::new(Places::new(3, 0));
        let taken = [(); 3].map(|()| Places::take(&places, address).unwrap());
        assert_eq!(Places::take(&places, address).unwrap_err(), Full::All(3));
        drop(taken);
    }
}

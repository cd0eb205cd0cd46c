//! The sockets of the DNS.

use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use synod_proto::coordination::v1 as pb;
use synod_rpc::{BindError, Listener};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, task};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::{Source, Way, answer};
use super::limit::Limit;
use super::zone::Zone;
use crate::discovery::{Catalog, Instance, Selected, service_path};
use crate::error::Error;
use crate::hub::{Client, Hub};

/// A query, at most.
const MAX_QUERY_BYTES: usize = 4_096;

/// TCP connections of a socket at a time. Further ones are closed.
const MAX_CONNECTIONS: usize = 128;

/// A TCP connection without a whole query, or whose client does not read, is closed after this
/// time.
const IDLE: Duration = Duration::from_secs(10);

/// The pause after the system refused to receive.
const BACKOFF: Duration = Duration::from_millis(100);

/// Bound sockets: each address for both UDP and TCP.
pub(crate) struct Sockets(Vec<(StdUdpSocket, std::net::TcpListener, SocketAddr)>);

impl Sockets {
    /// Binds the addresses, `HOST:PORT` each.
    ///
    /// # Errors
    /// The first address that can't be bound.
    pub(crate) fn bind(addresses: &[String]) -> Result<Self, BindError> {
        let sockets = addresses.iter().map(|text| {
            let io = |source| BindError::Io {
                address: text.clone(),
                source,
            };
            let listener = Listener::bind(text)?;
            let tcp = listener.into_tcp();
            let tcp = tcp.ok_or_else(|| io(std::io::ErrorKind::Unsupported.into()))?;
            let address = tcp.local_addr().map_err(io)?;
            let udp = StdUdpSocket::bind(address).map_err(io)?;
            udp.set_nonblocking(true).map_err(io)?;
            tcp.set_nonblocking(true).map_err(io)?;
            Ok((udp, tcp, address))
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// The addresses, with the ports that were bound.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(_, _, address)| address.to_string())
            .collect()
    }
}

/// Serves until the end.
pub(crate) fn serve(
    sockets: Sockets,
    hub: &Arc<Hub>,
    zone: Zone,
    end: &Shutdown,
) -> Result<(), BindError> {
    let pod = Arc::new(Pod {
        hub: Arc::clone(hub),
        zone,
        client: Mutex::new(None),
    });
    for (udp, tcp, address) in sockets.0 {
        let io = |source| BindError::Io {
            address: address.to_string(),
            source,
        };
        let udp = UdpSocket::from_std(udp).map_err(io)?;
        let tcp = TcpListener::from_std(tcp).map_err(io)?;
        let (datagrams, streams) = (Arc::clone(&pod), Arc::clone(&pod));
        let (end_of_udp, end_of_tcp) = (end.clone(), end.clone());
        drop(task::spawn("dns-udp", async move {
            tokio::select! {
                biased; // a pod that stops answers nothing more
                () = end_of_udp.triggered() => {}
                () = datagrams.receive(udp) => {}
            }
        }));
        drop(task::spawn("dns-tcp", async move {
            tokio::select! {
                biased; // a pod that stops answers nothing more
                () = end_of_tcp.triggered() => {}
                () = streams.accept(tcp, &end_of_tcp) => {}
            }
        }));
    }
    Ok(())
}

/// What answers are made of.
struct Pod {
    hub: Arc<Hub>,
    zone: Zone,
    /// What reads the tree.
    client: Mutex<Option<Arc<Client>>>,
}

impl Pod {
    async fn receive(&self, socket: UdpSocket) {
        let mut limit = Limit::new(clock::now());
        let mut query = [0; MAX_QUERY_BYTES];
        loop {
            let (length, from) = match socket.recv_from(&mut query).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive DNS queries: will try again");
                    clock::sleep(BACKOFF).await;
                    continue;
                }
            };
            let way = match limit.take(from.ip(), clock::now()) {
                true => Way::Udp,
                false => Way::UdpTruncated,
            };
            let Some(response) = answer(&query[..length], way, &self.zone, self) else {
                continue;
            };
            if let Err(error) = socket.send_to(&response, from).await {
                tracing::debug!(%error, %from, "cannot send a DNS answer");
            }
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, end: &Shutdown) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept DNS clients: check the limit on open files");
                    clock::sleep(BACKOFF).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::debug!(limit = MAX_CONNECTIONS, "refused a DNS connection");
                continue;
            };
            let (pod, end) = (Arc::clone(&self), end.clone());
            drop(task::spawn("dns-connection", async move {
                let ended = tokio::select! {
                    biased; // a pod that stops answers nothing more
                    () = end.triggered() => Ok(()),
                    ended = pod.converse(stream) => ended,
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "a DNS connection ended");
                }
                drop(place);
            }));
        }
    }

    /// Answers one query after the other.
    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let query = clock::timeout(IDLE, read(&mut stream)).await;
            let query = query.map_err(std::io::Error::from)??;
            let Some(response) = answer(&query, Way::Tcp, &self.zone, self) else {
                return Ok(());
            };
            let length = u16::try_from(response.len()).map_err(std::io::Error::other)?;
            let mut message = length.to_be_bytes().to_vec();
            message.extend(response);
            let sent = clock::timeout(IDLE, stream.write_all(&message)).await;
            sent.map_err(std::io::Error::from)??;
        }
    }

    /// A connection of this process; another one if it has ended.
    fn client(&self) -> Arc<Client> {
        let mut client = self.client.lock();
        if let Some(client) = client.as_ref().filter(|client| !client.is_closed()) {
            return Arc::clone(client);
        }
        let address = std::net::Ipv4Addr::UNSPECIFIED.into();
        let opened = Arc::new(Client::open(&self.hub, address, &[]));
        *client = Some(Arc::clone(&opened));
        opened
    }
}

impl Source for Pod {
    fn instances(&self, service: &str) -> Result<Option<Vec<Instance>>, Error> {
        let path = service_path(service)?;
        let passing = Selected {
            selection: pb::Selection::Passing,
            tags: Vec::new(),
        };
        let mut reader = self.client().reader();
        Catalog::instances(&mut reader, service, &path, &passing)
    }

    fn serial(&self) -> u32 {
        // It counts on from zero when it has no more bits.
        u32::try_from(self.hub.applied().get() & u64::from(u32::MAX)).unwrap_or_default()
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY_BYTES {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(query)
}

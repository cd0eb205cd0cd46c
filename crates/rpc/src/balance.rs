//! A channel that spreads calls over several servers.

use http::{Request, Response};
use synod_runtime::task;
use tonic::body::Body;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PendingRequests};
use tower::util::BoxCloneSyncService;

use crate::channel::{ChannelConfig, ChannelError};

/// A channel to several servers. A clone shares their connections.
pub type BalancedChannel = BoxCloneSyncService<Request<Body>, Response<Body>, tower::BoxError>;

impl ChannelConfig {
    /// A channel that sends each call to the less busy of two servers that it draws. It connects to
    /// a server with the first call to it. A call to one that can't be reached fails; the next one
    /// may go to another.
    ///
    /// # Errors
    /// [`ChannelError::BadUrl`] and [`ChannelError::NoTls`].
    ///
    /// # Panics
    /// Outside a tokio runtime, which drives the channel.
    pub fn balanced(&self, urls: &[String]) -> Result<BalancedChannel, ChannelError> {
        let channels = urls.iter().map(|url| self.lazy(url));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let counted = channels
            .into_iter()
            .map(|channel| PendingRequests::new(channel, CompleteOnResponse::default()));
        let balance = Balance::new(ServiceList::new::<Request<Body>>(counted));
        let (channel, worker) = Buffer::pair(balance, self.max_queued_calls);
        task::spawn("balance", worker);
        Ok(BoxCloneSyncService::new(channel))
    }
}

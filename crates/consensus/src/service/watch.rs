//! Watches. A client has one bidirectional stream with many watchers. [`synod_watch`] delivers the
//! events; this module converts requests and responses.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use synod_auth::{AuthState, Identity};
use synod_proto::etcd::etcdserverpb as pb;
use synod_proto::etcd::etcdserverpb::watch_create_request::FilterType;
use synod_proto::etcd::etcdserverpb::watch_request::RequestUnion;
use synod_proto::etcd::etcdserverpb::watch_server::Watch;
use synod_runtime::{clock, random, task};
use tonic::{Request, Response, Status, Streaming};

use super::leaderless::leaderless;
use crate::call::{Call, Caller, wants_leader};
use crate::error::Error;
use crate::shared::ServiceContext;
use synod_watch::{
    Command, Create, End, EventFlags, Notice, Outgoing, Progress, Requests, Splitting, WatchHandle,
    WatchId, WatchRange,
};

/// The Watch service of the client port.
#[derive(Clone)]
pub(crate) struct WatchService {
    shared: Arc<ServiceContext>,
    hub: WatchHandle,
    progress_interval: Duration,
}

impl WatchService {
    /// `progress_interval` is how often idle watchers that asked for it are notified of progress.
    pub(crate) fn new(
        shared: Arc<ServiceContext>,
        hub: WatchHandle,
        progress_interval: Duration,
    ) -> Self {
        Self {
            shared,
            hub,
            progress_interval,
        }
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let rpc = "/etcdserverpb.Watch/Watch";
        let call = self.shared.admit(&request, rpc, Caller::NeedsVoter).await?;
        let insists = wants_leader(request.metadata());
        let (requests, responses) = self.hub.open();
        let serving = Serving {
            shared: Arc::clone(&self.shared),
            call,
            requests,
            progress_interval: self.progress_interval,
        };
        // Ends with the stream: when the client is gone the responses are dropped, which the task
        // notices.
        task::spawn("watch-requests", serving.run(request.into_inner(), insists));
        let shared = Arc::clone(&self.shared);
        let responses = responses.map(move |next| match next {
            Ok(outgoing) => Ok(response(&shared, outgoing)),
            Err(end) => Err(ended(end).into()),
        });
        Ok(Response::new(responses.boxed()))
    }
}

/// The half of a stream that reads requests.
struct Serving {
    shared: Arc<ServiceContext>,
    call: Call,
    requests: Requests,
    progress_interval: Duration,
}

impl Serving {
    async fn run(self, inbound: Streaming<pb::WatchRequest>, insists: bool) {
        let without_leader = async {
            match insists {
                true => leaderless(&self.shared).await,
                false => std::future::pending().await,
            }
        };
        // The end of the stream comes first, since nothing else matters after it.
        tokio::select! {
            biased;
            () = self.requests.closed() => {}
            () = without_leader => self.requests.close(End::NoLeader),
            () = self.notify_progress() => {}
            () = self.read(inbound) => {}
        }
    }

    async fn read(&self, mut inbound: Streaming<pb::WatchRequest>) {
        let id = self.requests.id();
        loop {
            let request = match inbound.message().await {
                Ok(Some(request)) => request.request_union,
                // The client sends no more requests, but still wants events.
                Ok(None) => return self.requests.closed().await,
                Err(_) => return self.requests.close(End::Finished),
            };
            let command = match request {
                Some(RequestUnion::CreateRequest(request)) => match self.permit(&request).await {
                    Ok(()) => Command::Create(id, create(request)),
                    Err(Error::Auth(denied)) => Command::Refuse(id, denied.watch_cancel_reason()),
                    // This member could not identify the caller in time.
                    Err(_) => return self.requests.close(End::NoLeader),
                },
                Some(RequestUnion::CancelRequest(request)) => {
                    Command::Cancel(id, WatchId(request.watch_id))
                }
                Some(RequestUnion::ProgressRequest(_)) => Command::Progress(id),
                None => continue,
            };
            self.requests.send(command).await;
        }
    }

    /// A watcher is checked when it is created, and never again, as in etcd.
    async fn permit(&self, request: &pb::WatchCreateRequest) -> Result<(), Error> {
        if request.start_revision < 0 {
            // As in etcd, this is checked before the permission.
            return Ok(());
        }
        let deadline = clock::now() + self.shared.settings.request_timeout;
        let check = |users: &AuthState, by: Option<&Identity>| users.check_watch(by, request);
        self.shared.permit(&self.call.until(deadline), check).await
    }

    async fn notify_progress(&self) {
        loop {
            // Between 70 % and 110 % of the interval, so that many streams don't tick at once.
            let spread = random::jitter(self.progress_interval / 5 * 2);
            clock::sleep(self.progress_interval * 7 / 10 + spread).await;
            self.requests.send(Command::Tick(self.requests.id())).await;
        }
    }
}

fn create(request: pb::WatchCreateRequest) -> Create {
    let mut flags = EventFlags::default();
    for filter in request.filters() {
        flags = flags.and(match filter {
            FilterType::Noput => EventFlags::NO_PUT,
            FilterType::Nodelete => EventFlags::NO_DELETE,
        });
    }
    if request.prev_kv {
        flags = flags.and(EventFlags::PREV_KV);
    }
    Create {
        watch_id: request.watch_id,
        flags,
        start_revision: request.start_revision,
        splitting: match request.fragment {
            true => Splitting::Fragments,
            false => Splitting::Whole,
        },
        progress: match request.progress_notify {
            true => Progress::Periodic,
            false => Progress::Silent,
        },
        range: WatchRange::decode(request.key, request.range_end),
    }
}

fn response(shared: &ServiceContext, outgoing: Outgoing) -> pb::WatchResponse {
    let base = |revision: i64, watch_id: WatchId| pb::WatchResponse {
        header: Some(shared.header(revision)),
        watch_id: watch_id.0,
        ..Default::default()
    };
    match outgoing {
        Outgoing::Events {
            watch_id,
            revision,
            events,
            fragment,
        } => pb::WatchResponse {
            events,
            fragment,
            ..base(revision, watch_id)
        },
        Outgoing::Notice(Notice::Created { watch_id, revision }) => pb::WatchResponse {
            created: true,
            ..base(revision, watch_id)
        },
        Outgoing::Notice(Notice::Refused { reason, revision }) => pb::WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason,
            ..base(revision, WatchId::NONE)
        },
        Outgoing::Notice(Notice::Canceled { watch_id, revision }) => pb::WatchResponse {
            canceled: true,
            ..base(revision, watch_id)
        },
        // As in etcd the header carries no revision, and there is no reason.
        Outgoing::Notice(Notice::Compacted {
            watch_id,
            compact_revision,
        }) => pb::WatchResponse {
            canceled: true,
            compact_revision,
            ..base(0, watch_id)
        },
        Outgoing::Notice(Notice::Progress { watch_id, revision }) => base(revision, watch_id),
    }
}

/// Why a stream ended.
pub(super) fn ended(end: End) -> Error {
    match end {
        End::NoLeader => Error::NoLeader,
        End::Stopped | End::Finished => Error::NotRunning,
        End::Broken => Error::Internal(
            "the watch history cannot be read: watch through another member; this one's log names the cause"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn requests_become_commands() {
        let asked = create(pb::WatchCreateRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: 7,
            progress_notify: true,
            filters: vec![FilterType::Nodelete.into(), FilterType::Noput.into()],
            prev_kv: true,
            watch_id: 3,
            fragment: true,
        });
        assert_eq!(
            asked,
            Create {
                watch_id: 3,
                range: WatchRange::decode(Bytes::from_static(b"a"), Bytes::from_static(b"\0")),
                flags: EventFlags::NO_PUT
                    .and(EventFlags::NO_DELETE)
                    .and(EventFlags::PREV_KV),
                start_revision: 7,
                splitting: Splitting::Fragments,
                progress: Progress::Periodic,
            }
        );
        let plain = create(pb::WatchCreateRequest::default());
        assert_eq!((plain.flags, plain.watch_id), (EventFlags::default(), 0));
        assert_eq!(
            (plain.splitting, plain.progress),
            (Splitting::Whole, Progress::Silent)
        );
    }

    #[test]
    fn ends_have_etcds_texts() {
        assert_eq!(ended(End::NoLeader).to_string(), "etcdserver: no leader");
        let stopped = ended(End::Stopped).to_string();
        assert_eq!(stopped, "etcdserver: server stopped");
    }
}

//! Sends the pod's commands to the leading pod, and tells it which sessions are alive.

use std::sync::Arc;
use std::time::Duration;

use synod_coordination_core::{Command, LogNumber, SessionId};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::pods_client::PodsClient;
use synod_rpc::{ChannelConfig, Look, look};
use synod_runtime::shutdown::Shutdown;
use synod_runtime::{clock, random};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::contact::Contact;
use crate::convert;
use crate::endpoint::Endpoint;
use crate::hub::Hub;
use crate::leadership::{self, Leader};
use crate::sequencing::Taken;

/// How often a pod calls that has no commands.
const CALL_EVERY: Duration = Duration::from_millis(250);

/// How many commands one call has at most.
const MAX_COMMANDS: usize = 4096;

/// The bytes of one call's commands, about. A single command may have more.
const MAX_BYTES: usize = 2 << 20;

/// How long the leading pod may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause after a failure, at most; half of it at least.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Sends commands to whichever pod leads.
pub(crate) struct Forwarder {
    pub(crate) endpoint: Endpoint,
    pub(crate) hub: Arc<Hub>,
    pub(crate) contact: Contact,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    /// This pod, as a leading one.
    pub(crate) own: Leader,
    /// How other pods are reached.
    pub(crate) channels: ChannelConfig,
}

impl Forwarder {
    /// Sends commands until the pod stops. While this pod leads, its sequencer takes them itself.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        let mut is_first = true;
        loop {
            let leader = self.leader.borrow_and_update().clone();
            let former = leader.as_ref().filter(|_| is_first);
            let former = former.filter(|leader| self.is_former(leader)).cloned();
            is_first &= leader.is_none();
            let mut next = self.leader.clone();
            tokio::select! {
                biased; // the stop, and then the next leading pod
                () = stop.triggered() => return,
                changed = next.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.follow(leader, former) => {}
            }
        }
    }

    /// Sends commands to this pod. Does not end while it leads. If it is a `former` process of this
    /// pod, its lease is ended first.
    async fn follow(&self, leader: Option<Leader>, former: Option<Leader>) {
        if let Some(former) = former {
            self.depose(&former).await;
        }
        let Some(leader) = leader.filter(|leader| *leader != self.own) else {
            return std::future::pending().await;
        };
        let channel = match self.channels.lazy(&leader.address) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::error!(%error, "cannot reach the leading pod: check --advertise-url of all pods");
                return std::future::pending().await;
            }
        };
        let pods = PodsClient::new(channel).max_decoding_message_size(usize::MAX);
        // Nobody knows what the former leading pod has taken.
        self.hub.restart_outbox();
        let mut was_reached = false;
        loop {
            // Signs of life can wait for commands, or for the next call without any.
            let _waited_or_commands = clock::timeout(CALL_EVERY, self.hub.commands_waiting()).await;
            match self.send(pods.clone(), &leader).await {
                Ok(()) => was_reached = true,
                Err(status) => {
                    if status.code() == tonic::Code::PermissionDenied {
                        tracing::warn!(
                            address = leader.address,
                            "another process answers at the leading pod's address: does each pod have its own --advertise-url?"
                        );
                    } else {
                        tracing::warn!(
                            address = leader.address,
                            reason = status.message(),
                            "cannot reach the leading pod; will try again"
                        );
                    }
                    self.hub.restart_outbox();
                    if was_reached && look(&leader.address).await == Look::Refused {
                        self.depose(&leader).await;
                    }
                    clock::sleep(random::jitter(RETRY_AFTER)).await;
                }
            }
        }
    }

    /// Whether the pod that leads when this process starts is one that ran here before: this one
    /// has its port now.
    fn is_former(&self, leader: &Leader) -> bool {
        leader.address == self.own.address && *leader != self.own
    }

    /// Ends the lease of a leading pod whose process is gone: it was there, and now nobody listens
    /// at its address, or another process does. If it lives in spite of that, it loses the
    /// leadership and nothing else.
    async fn depose(&self, leader: &Leader) {
        match leadership::depose(&self.endpoint, leader).await {
            Ok(true) => tracing::info!(
                address = leader.address,
                "ended the lease of the leading pod, whose process is gone"
            ),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the leading pod's lease ends by itself"),
        }
    }

    /// Sends what is there, in one call or several.
    async fn send(
        &self,
        mut pods: PodsClient<Channel>,
        leader: &Leader,
    ) -> Result<(), tonic::Status> {
        loop {
            let pod = self.hub.pod();
            let commands = self.hub.take_commands(MAX_COMMANDS);
            let (commands, rest) = within_bytes(commands);
            if let Some(number) = rest {
                self.hub.resend_from(number);
            }
            let asked = clock::now();
            // Taken again after a failure, and if another pod leads before the answer.
            let touched = self.hub.send_touched();
            let mut request = tonic::Request::new(pb::ForwardRequest {
                secret: leader.secret.to_vec().into(),
                pod: pod.get(),
                commands,
                touched: touched.sessions().map(SessionId::get).collect(),
            });
            request.set_timeout(CALL_TIMEOUT);
            let answer = clock::timeout(CALL_TIMEOUT, pods.forward(request)).await;
            let answer = match answer {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => return Err(status),
                Err(_) => return Err(tonic::Status::deadline_exceeded("no answer in time")),
            };
            match convert::taken(answer.taken) {
                Some(Taken::All) => {}
                Some(Taken::Before(number)) => {
                    self.hub.resend_from(number);
                    clock::sleep(random::jitter(RETRY_AFTER)).await;
                }
                Some(Taken::Unregistered) => self.hub.renew(pod),
                Some(Taken::NotLeading) | None => {
                    return Err(tonic::Status::unavailable("the pod does not lead"));
                }
            }
            let late: Vec<SessionId> = answer.late.into_iter().map(SessionId::new).collect();
            touched.arrived(&late);
            self.contact.heard(LogNumber::new(answer.applied), asked);
            if rest.is_none() {
                return Ok(());
            }
        }
    }
}

/// The encoded commands that fit into a call, at least one, and the number of the first that does
/// not.
fn within_bytes(commands: Vec<Command>) -> (Vec<bytes::Bytes>, Option<u64>) {
    let mut encoded = Vec::with_capacity(commands.len());
    let mut bytes = 0;
    for command in commands {
        let next = command.encode();
        bytes += next.len();
        if bytes > MAX_BYTES && !encoded.is_empty() {
            let number = command.origin.map(|origin| origin.number);
            return (encoded, number);
        }
        encoded.push(next.into());
    }
    (encoded, None)
}

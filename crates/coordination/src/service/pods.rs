//! Other pods' commands, while this pod leads.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use synod_coordination_core::{Command, PodId, SessionId};
use synod_proto::coordination::v1 as pb;
use synod_proto::coordination::v1::pods_server::Pods;
use tonic::{Request, Response, Status};

use crate::convert;
use crate::hub::Hub;
use crate::leadership::Secret;
use crate::sequencing::{Entrance, Taken};

/// Takes commands for the sequencer.
pub(crate) struct PodsService {
    hub: Arc<Hub>,
    entrance: Entrance,
    secret: Secret,
}

impl PodsService {
    pub(crate) fn new(hub: Arc<Hub>, entrance: Entrance, secret: Secret) -> Self {
        Self {
            hub,
            entrance,
            secret,
        }
    }
}

#[tonic::async_trait]
impl Pods for PodsService {
    async fn forward(
        &self,
        request: Request<pb::ForwardRequest>,
    ) -> Result<Response<pb::ForwardResponse>, Status> {
        let request = request.into_inner();
        if !bool::from(request.secret.as_ref().ct_eq(&self.secret)) {
            return Err(Status::permission_denied(
                "the caller does not know this pod's secret: only pods of the same service may call this",
            ));
        }
        let commands = request.commands.iter();
        let commands = commands.map(|command| Command::decode(command));
        let commands: Vec<Command> = commands.collect::<Result<_, _>>().map_err(|error| {
            let text =
                format!("a command can't be read ({error}): do all pods run the same release?");
            Status::invalid_argument(text)
        })?;
        let touched = request.touched.into_iter().map(SessionId::new).collect();
        let (taken, late) = match self.entrance.enter() {
            Some(passage) => {
                let pod = PodId::new(request.pod);
                let answer = passage.forward(pod, commands, touched).await;
                (answer.taken, answer.late)
            }
            None => (Taken::NotLeading, Vec::new()),
        };
        Ok(Response::new(pb::ForwardResponse {
            taken: Some(convert::wire_taken(taken)),
            applied: self.hub.applied().get(),
            late: late.into_iter().map(SessionId::get).collect(),
        }))
    }
}

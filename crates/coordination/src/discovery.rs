//! Service discovery: instances of services are nodes below `/synod/services/SERVICE/ID`, in the
//! form of Curator's service discovery, and the pod that serves an instance's session runs its
//! health checks.

mod catalog;
mod checker;
mod health;
mod instance;
mod networks;
mod probe;

pub(crate) use catalog::{Catalog, Deltas, Selected};
pub(crate) use checker::Checker;
pub(crate) use instance::{Instance, Registration};
pub use networks::Networks;

use synod_coordination_core::{SessionId, Zxid};

use crate::error::Error;
use crate::hub::View;

/// Below it each service has a node.
pub(crate) const SERVICES: &str = "/synod/services";

/// The instances of a service, at most: who reads them looks at all of them.
pub(crate) const MAX_INSTANCES: usize = 2_000;

/// The longest name that is a label of the DNS.
const MAX_LABEL_BYTES: usize = 63;

/// The path of a service.
///
/// # Errors
/// No node can have the name.
pub(crate) fn service_path(service: &str) -> Result<String, Error> {
    crate::queue::child_path(SERVICES, service)
}

/// The path of an instance.
///
/// # Errors
/// No node can have the name.
pub(crate) fn instance_path(service: &str, id: &str) -> Result<String, Error> {
    crate::queue::child_path(&service_path(service)?, id)
}

/// Whether a service or an instance may be registered under this name, so that the DNS has it.
fn is_label(name: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    (1..=MAX_LABEL_BYTES).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_valid)
}

/// An instance's node.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) registration: Registration,
    pub(crate) version: i32,
    pub(crate) token: Zxid,
    pub(crate) owner: SessionId,
}

/// Reads an instance's node; `None` if there is none.
///
/// # Errors
/// An access control list does not permit it, or the node is no instance.
pub(crate) fn find(view: &View<'_>, path: &str) -> Result<Option<Found>, Error> {
    let (data, stat) = match view.get(path).map_err(Error::from) {
        Ok(found) => found,
        Err(Error::NoNode) => return Ok(None),
        Err(error) => return Err(error),
    };
    let registration = Registration::decode(data).ok_or(Error::NoInstance)?;
    Ok(Some(Found {
        registration,
        version: stat.version,
        token: stat.czxid,
        owner: stat.ephemeral_owner,
    }))
}

//! DNS: where the passing instances of services are, as A, AAAA and SRV records of one zone. It
//! answers for its zone alone, from the pod's state, and asks nobody.

mod answer;
mod limit;
mod serve;
mod zone;

pub(crate) use serve::{Sockets, serve};
pub(crate) use zone::Zone;

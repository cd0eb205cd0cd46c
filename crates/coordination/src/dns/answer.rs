//! A query's answer.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use synod_runtime::random;

use super::zone::{Meaning, Zone};
use crate::discovery::Instance;
use crate::error::Error;

/// A DNS header.
const HEADER_BYTES: usize = 12;

/// An answer over UDP, unless the client says that it takes more.
const MIN_UDP_BYTES: u16 = 512;

/// An answer over UDP at most: networks don't fragment it.
const MAX_UDP_BYTES: u16 = 1_232;

/// Instances in an answer, at most. Which ones, is drawn by weight.
const MAX_ANSWERS: usize = 64;

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Udp,
    /// Over UDP, to addresses that ask too much: without records.
    UdpTruncated,
    Tcp,
}

/// Where instances are found.
pub(super) trait Source {
    /// The passing instances; `None` if there is no such service.
    ///
    /// # Errors
    /// They can't be read.
    fn instances(&self, service: &str) -> Result<Option<Vec<Instance>>, Error>;

    /// The version of the zone.
    fn serial(&self) -> u32;
}

/// Answers a query; `None` if it gets no answer.
pub(super) fn answer(query: &[u8], way: Way, zone: &Zone, source: &dyn Source) -> Option<Vec<u8>> {
    // Answers to answers would never end.
    if query.len() < HEADER_BYTES || query[2] & 0x80 != 0 {
        return None;
    }
    let Ok(query) = Message::from_vec(query) else {
        let id = u16::from_be_bytes([query[0], query[1]]);
        let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
        return error.to_vec().ok();
    };
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.message_type = MessageType::Response;
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    let mut limit = match way {
        Way::Udp | Way::UdpTruncated => MIN_UDP_BYTES,
        Way::Tcp => u16::MAX,
    };
    let mut is_known = true;
    if let Some(edns) = &query.edns {
        is_known = edns.version() == 0;
        limit = limit.max(edns.max_payload().min(MAX_UDP_BYTES));
        let mut own = Edns::new();
        own.set_max_payload(MAX_UDP_BYTES);
        response.set_edns(own);
    }
    response.add_queries(query.queries.iter().take(1).cloned());
    if way == Way::UdpTruncated {
        response.metadata.truncation = true;
        return response.to_vec().ok();
    }
    response.metadata.response_code = match &query.queries[..] {
        _ if !is_known => ResponseCode::BADVERS,
        _ if query.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        [asked] => find(asked, zone, source, &mut response),
        _ => ResponseCode::FormErr,
    };
    encode(response, limit.into())
}

/// As many bytes as the client takes.
fn encode(mut response: Message, limit: usize) -> Option<Vec<u8>> {
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    // A client can ask for these.
    response.additionals.clear();
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    response.truncate().to_vec().ok()
}

/// Adds the records of a name.
fn find(asked: &Query, zone: &Zone, source: &dyn Source, response: &mut Message) -> ResponseCode {
    if asked.query_class() != DNSClass::IN {
        return ResponseCode::Refused;
    }
    let Some(meaning) = zone.meaning(asked.name()) else {
        return ResponseCode::Refused;
    };
    response.metadata.authoritative = true;
    let found = match meaning {
        Meaning::Nothing => Ok(None),
        Meaning::Origin | Meaning::Branch => Ok(Some(Vec::new())),
        Meaning::Service(service) => source.instances(&service),
        Meaning::ServiceRecords(service) => {
            let found = source.instances(&service);
            if asked.query_type() == RecordType::SRV {
                found
            } else {
                // The name exists, without such records.
                found.map(|found| found.map(|_| Vec::new()))
            }
        }
        Meaning::Instance { service, id } => source.instances(&service).map(|found| {
            let found = found?.into_iter().find(|instance| instance.id == id);
            found.map(|instance| vec![instance])
        }),
    };
    let found = match found {
        Ok(found) => found,
        // No node can have the name.
        Err(Error::Invalid { .. }) => None,
        Err(_) => {
            response.metadata.authoritative = false;
            return ResponseCode::ServFail;
        }
    };
    let code = match &found {
        Some(_) => ResponseCode::NoError,
        None => ResponseCode::NXDomain,
    };
    for instance in shuffled(found.unwrap_or_default()).iter().take(MAX_ANSWERS) {
        add(instance, asked, zone, response);
    }
    let is_origin = *asked.name() == zone.origin && asked.query_type() == RecordType::SOA;
    let authority = zone.authority(source.serial());
    let authority = Record::from_rdata(zone.origin.clone(), zone.ttl_s, RData::SOA(authority));
    if is_origin {
        response.add_answer(authority);
    } else if response.answers.is_empty() {
        response.add_authority(authority);
    }
    code
}

/// Adds the records of an instance.
fn add(instance: &Instance, asked: &Query, zone: &Zone, response: &mut Message) {
    let ip: Option<IpAddr> = instance.address.parse().ok();
    let name = asked.name().clone();
    if asked.query_type() != RecordType::SRV {
        let Some(data) = ip.map(address) else { return };
        if data.record_type() == asked.query_type() {
            response.add_answer(Record::from_rdata(name, zone.ttl_s, data));
        }
        return;
    }
    let named = zone.instance_name(&instance.service, &instance.id);
    let target = match ip {
        Some(_) => named,
        None => host(&instance.address),
    };
    let (Some(target), Ok(port @ 1..)) = (target, u16::try_from(instance.port)) else {
        return;
    };
    let weight = u16::try_from(weight(instance)).unwrap_or(u16::MAX);
    let srv = SRV::new(0, weight, port, target.clone());
    response.add_answer(Record::from_rdata(name, zone.ttl_s, RData::SRV(srv)));
    if let Some(ip) = ip {
        response.add_additional(Record::from_rdata(target, zone.ttl_s, address(ip)));
    }
}

fn address(ip: IpAddr) -> RData {
    match ip.to_canonical() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn host(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn weight(instance: &Instance) -> u32 {
    instance.weight.unwrap_or(1)
}

/// In an order drawn by weight: an instance is first as often as its share of the weights. Those
/// without weight are last.
fn shuffled(instances: Vec<Instance>) -> Vec<Instance> {
    let draw = |instance: &Instance| {
        let random = u32::try_from(random::u64() >> 32).unwrap_or(u32::MAX);
        let unit = (f64::from(random) + 1.0) / (f64::from(u32::MAX) + 2.0);
        // Times until the first event of processes with these rates.
        -unit.ln() / f64::from(weight(instance))
    };
    let drawn = instances
        .into_iter()
        .map(|instance| (draw(&instance), instance));
    let mut drawn: Vec<(f64, Instance)> = drawn.collect();
    drawn.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    drawn.into_iter().map(|(_, instance)| instance).collect()
}

#[cfg(test)]
mod tests;

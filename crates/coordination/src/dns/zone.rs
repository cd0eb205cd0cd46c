//! The names of the zone.
//!
//! - `NAME.service.synod.` has the addresses of a service's instances, and SRV records that name
//!   `ID.NAME.service.synod.`, the addresses of one instance.
//! - `_NAME._tcp.service.synod.`, in the form of RFC 2782, has the same SRV records.

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::SOA;

/// The label above the names of services.
const SERVICE: &str = "service";

/// Who follows a zone by its SOA record: nobody does.
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 86_400;

/// The zone that is answered for.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(super) origin: Name,
    /// How long resolvers may keep answers.
    pub(super) ttl_s: u32,
}

/// What a name of the zone stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The zone itself.
    Origin,
    /// Only names below it have records.
    Branch,
    Service(String),
    /// Only SRV records.
    ServiceRecords(String),
    Instance {
        service: String,
        id: String,
    },
    Nothing,
}

impl Zone {
    /// The zone of this domain.
    ///
    /// # Errors
    /// Says what was expected.
    pub(crate) fn parse(domain: &str, ttl_s: u32) -> Result<Self, String> {
        let expected = || "a domain such as synod. or sd.example.com".to_owned();
        let origin = Name::from_ascii(domain).map_err(|_| expected())?;
        let mut origin = origin.to_lowercase();
        origin.set_fqdn(true);
        // Names below it have three more labels of up to 63 bytes.
        if origin.is_root() || origin.len() > 63 {
            return Err(format!("{} of at most 63 bytes", expected()));
        }
        Ok(Self { origin, ttl_s })
    }

    /// What a name stands for; `None` if it is not in the zone.
    pub(super) fn meaning(&self, name: &Name) -> Option<Meaning> {
        let name = name.to_lowercase();
        if !self.origin.zone_of(&name) {
            return None;
        }
        let own = name.iter().count() - self.origin.iter().count();
        let labels = name.iter().take(own).map(std::str::from_utf8);
        let Ok(labels) = labels.collect::<Result<Vec<&str>, _>>() else {
            return Some(Meaning::Nothing);
        };
        Some(match labels[..] {
            [] => Meaning::Origin,
            [SERVICE] | ["_tcp" | "_udp", SERVICE] => Meaning::Branch,
            [service, SERVICE] => Meaning::Service(service.to_owned()),
            [service, "_tcp" | "_udp", SERVICE] => match service.strip_prefix('_') {
                Some(service) => Meaning::ServiceRecords(service.to_owned()),
                None => Meaning::Nothing,
            },
            [id, service, SERVICE] => Meaning::Instance {
                service: service.to_owned(),
                id: id.to_owned(),
            },
            _ => Meaning::Nothing,
        })
    }

    /// The name of an instance; `None` if the DNS has no such name.
    pub(super) fn instance_name(&self, service: &str, id: &str) -> Option<Name> {
        let labels = [id, service, SERVICE].map(str::as_bytes);
        let name = Name::from_labels(labels).ok()?;
        name.append_domain(&self.origin).ok()
    }

    /// Says how long resolvers may keep that there is no answer.
    pub(super) fn authority(&self, serial: u32) -> SOA {
        let below = |label: &str| {
            let name = self.origin.prepend_label(label);
            name.unwrap_or_else(|_| self.origin.clone())
        };
        let (server, mailbox) = (below("ns"), below("hostmaster"));
        SOA::new(
            server, mailbox, serial, REFRESH_S, RETRY_S, EXPIRE_S, self.ttl_s,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_meaning_whatever_their_case() {
        let zone = Zone::parse("Sd.Example", 5).unwrap();
        let service = || Meaning::Service("web".to_owned());
        let records = || Meaning::ServiceRecords("web".to_owned());
        let instance = || Meaning::Instance {
            service: "web".to_owned(),
            id: "web-1".to_owned(),
        };
        for (name, expected) in [
            ("sd.example.", Some(Meaning::Origin)),
            ("service.sd.example.", Some(Meaning::Branch)),
            ("_tcp.service.sd.example.", Some(Meaning::Branch)),
            ("WEB.service.SD.example.", Some(service())),
            ("_web._tcp.service.sd.example.", Some(records())),
            ("web-1.web.service.sd.example.", Some(instance())),
            ("web._tcp.service.sd.example.", Some(Meaning::Nothing)),
            ("a.web-1.web.service.sd.example.", Some(Meaning::Nothing)),
            ("web.sd.example.", Some(Meaning::Nothing)),
            ("web.service.example.", None),
            ("example.", None),
            (".", None),
            ("xsd.example.", None),
        ] {
            let name = Name::from_ascii(name).unwrap();
            assert_eq!(zone.meaning(&name), expected, "{name}");
        }
        let name = zone.instance_name("web", "web-1").unwrap();
        assert_eq!(zone.meaning(&name), Some(instance()));
        assert_eq!(zone.instance_name("web", &"x".repeat(64)), None);
    }

    #[test]
    fn a_zone_is_a_domain() {
        for wrong in ["", ".", "a..b", &"x".repeat(64)] {
            assert!(Zone::parse(wrong, 0).is_err(), "{wrong:?}");
        }
    }
}

//! The members of the cluster, the raised alarms, and the version that all members have.
//!
//! The core's membership says who votes. The roster has the members' names and URLs. A change is
//! written to the engine in the batch of the entry that makes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use synod_mvcc::{MvccError, View, WriteTxn};
use synod_proto::consensus::v1::ClusterRecord;
use synod_proto::etcd::etcdserverpb::{AlarmMember, AlarmType, Member};
use synod_types::NodeId;

use crate::error::Error;
use crate::version::USERS;

/// The key of the row with everything but the members.
const CLUSTER_ROW: &[u8] = b"cluster";

/// The cluster as of the last applied entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Roster {
    members: BTreeMap<NodeId, Member>,
    removed: BTreeSet<NodeId>,
    alarms: BTreeSet<(i32, NodeId)>,
    version: Option<String>,
    feature_level: u32,
}

impl Roster {
    /// The roster of a new cluster, or of one that is joined.
    pub(crate) fn of(members: impl IntoIterator<Item = Member>) -> Self {
        let members = members
            .into_iter()
            .map(|member| (NodeId::new(member.id), member))
            .collect();
        Self {
            members,
            ..Self::default()
        }
    }

    /// Reads the roster from the store.
    ///
    /// # Errors
    /// The engine fails, or a row is damaged.
    pub(crate) fn load(view: &View) -> Result<Self, MvccError> {
        let damaged = |detail: &str| MvccError::Corrupt {
            detail: format!("{detail} can't be decoded"),
        };
        let mut roster = Self::default();
        for (id, record) in view.members()? {
            let member = Member::decode(record).map_err(|_| damaged("a member's row"))?;
            roster.members.insert(id, member);
        }
        if let Some(record) = view.meta_get(CLUSTER_ROW)? {
            let record = ClusterRecord::decode(record).map_err(|_| damaged("the cluster's row"))?;
            roster.removed = record.removed.into_iter().map(NodeId::new).collect();
            roster.alarms = record
                .alarms
                .into_iter()
                .map(|alarm| (alarm.alarm, NodeId::new(alarm.member_id)))
                .collect();
            roster.version = Some(record.version).filter(|version| !version.is_empty());
            roster.feature_level = record.feature_level;
        }
        Ok(roster)
    }

    /// Writes the whole roster, for a new data directory.
    pub(crate) fn store(&self, txn: &mut WriteTxn<'_>) {
        for (id, member) in &self.members {
            txn.member_put(*id, Bytes::from(member.encode_to_vec()));
        }
        self.store_record(txn);
    }

    fn store_record(&self, txn: &mut WriteTxn<'_>) {
        let record = ClusterRecord {
            removed: self.removed.iter().map(|id| id.get()).collect(),
            alarms: self.alarms(AlarmType::None),
            version: self.version.clone().unwrap_or_default(),
            feature_level: self.feature_level,
        };
        txn.meta_put(CLUSTER_ROW, Bytes::from(record.encode_to_vec()));
    }

    /// The members in the order of their ids.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The members as a list, for responses.
    pub(crate) fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// One member.
    pub(crate) fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The etcd version that all members have, once it is set.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The feature level that all members have and entries rely on.
    pub(crate) fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// Checks whether the feature level allows users and roles. Called before a command on them is
    /// proposed, and when it is applied.
    ///
    /// # Errors
    /// [`Error::UsersUnsupported`].
    pub(crate) fn check_users(&self) -> Result<(), Error> {
        let level = self.feature_level;
        match level >= USERS {
            true => Ok(()),
            false => Err(Error::UsersUnsupported { level }),
        }
    }

    /// The alarms of one type, or all of them for [`AlarmType::None`].
    pub(crate) fn alarms(&self, kind: AlarmType) -> Vec<AlarmMember> {
        self.alarms
            .iter()
            .filter(|(alarm, _)| kind == AlarmType::None || *alarm == kind as i32)
            .copied()
            .map(wire)
            .collect()
    }

    /// Whether any member raised this alarm; [`AlarmType::None`] stands for any alarm.
    pub(crate) fn alarmed(&self, kind: AlarmType) -> bool {
        let is_meant = |alarm: i32| kind == AlarmType::None || alarm == kind as i32;
        self.alarms.iter().any(|(alarm, _)| is_meant(*alarm))
    }

    /// Whether this member raised this alarm.
    pub(crate) fn alarmed_by(&self, kind: AlarmType, member: NodeId) -> bool {
        self.alarms.contains(&(kind as i32, member))
    }

    /// Adds a member. If it exists already, because the entry is applied again, it keeps its name
    /// and client URLs.
    ///
    /// # Errors
    /// The id belonged to a member that was removed, or a peer URL is taken.
    pub(crate) fn add(&mut self, member: Member, txn: &mut WriteTxn<'_>) -> Result<(), Error> {
        let id = NodeId::new(member.id);
        if self.removed.contains(&id) {
            return Err(Error::MemberExists);
        }
        self.check_urls(id, &member.peer_urls)?;
        let mut member = member;
        if let Some(known) = self.members.get(&id) {
            member.name.clone_from(&known.name);
            member.client_urls.clone_from(&known.client_urls);
        }
        self.put(member, txn);
        Ok(())
    }

    /// Removes a member for good, with its alarms.
    ///
    /// # Errors
    /// There is no such member.
    pub(crate) fn remove(&mut self, id: NodeId, txn: &mut WriteTxn<'_>) -> Result<(), Error> {
        if self.members.remove(&id).is_none() {
            return Err(Error::MemberNotFound);
        }
        self.removed.insert(id);
        self.alarms.retain(|(_, raised_by)| *raised_by != id);
        txn.member_delete(id);
        self.store_record(txn);
        Ok(())
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// There is no such member.
    pub(crate) fn promote(&mut self, id: NodeId, txn: &mut WriteTxn<'_>) -> Result<(), Error> {
        let mut member = self.members.get(&id).ok_or(Error::MemberNotFound)?.clone();
        member.is_learner = false;
        self.put(member, txn);
        Ok(())
    }

    /// Sets a member's name and client URLs. Does nothing for a removed member.
    pub(crate) fn publish(
        &mut self,
        id: NodeId,
        name: String,
        client_urls: Vec<String>,
        txn: &mut WriteTxn<'_>,
    ) {
        if let Some(mut member) = self.members.get(&id).cloned() {
            member.name = name;
            member.client_urls = client_urls;
            self.put(member, txn);
        }
    }

    /// Sets a member's peer URLs.
    ///
    /// # Errors
    /// There is no such member, or another member has one of the URLs.
    pub(crate) fn update_peer_urls(
        &mut self,
        id: NodeId,
        urls: Vec<String>,
        txn: &mut WriteTxn<'_>,
    ) -> Result<(), Error> {
        let mut member = self.members.get(&id).ok_or(Error::MemberNotFound)?.clone();
        self.check_urls(id, &urls)?;
        member.peer_urls = urls;
        self.put(member, txn);
        Ok(())
    }

    /// Raises an alarm. Returns it if it is new.
    pub(crate) fn raise(
        &mut self,
        kind: AlarmType,
        member: NodeId,
        txn: &mut WriteTxn<'_>,
    ) -> Vec<AlarmMember> {
        let alarm = (kind as i32, member);
        if kind == AlarmType::None || !self.alarms.insert(alarm) {
            return Vec::new();
        }
        self.store_record(txn);
        vec![wire(alarm)]
    }

    /// Disarms alarms of one type or all, and of one member or all. Returns the disarmed ones.
    pub(crate) fn disarm(
        &mut self,
        kind: AlarmType,
        member: NodeId,
        txn: &mut WriteTxn<'_>,
    ) -> Vec<AlarmMember> {
        let is_meant = |(alarm, raised_by): &(i32, NodeId)| {
            (kind == AlarmType::None || *alarm == kind as i32)
                && (!member.is_some() || *raised_by == member)
        };
        let gone: Vec<_> = self.alarms.iter().copied().filter(is_meant).collect();
        if !gone.is_empty() {
            self.alarms.retain(|alarm| !is_meant(alarm));
            self.store_record(txn);
        }
        gone.into_iter().map(wire).collect()
    }

    /// Sets the cluster's version, and raises the feature level that later entries may rely on. The
    /// level never falls.
    pub(crate) fn set_version(
        &mut self,
        version: String,
        feature_level: u32,
        txn: &mut WriteTxn<'_>,
    ) {
        self.version = Some(version);
        self.raise_level(feature_level);
        self.store_record(txn);
    }

    /// Raises the feature level to at least this one.
    pub(crate) fn raise_level(&mut self, feature_level: u32) {
        self.feature_level = self.feature_level.max(feature_level);
    }

    fn check_urls(&self, id: NodeId, urls: &[String]) -> Result<(), Error> {
        let taken = self
            .members
            .iter()
            .filter(|(other, _)| **other != id)
            .any(|(_, member)| member.peer_urls.iter().any(|url| urls.contains(url)));
        if taken {
            Err(Error::PeerUrlExists)
        } else {
            Ok(())
        }
    }

    fn put(&mut self, member: Member, txn: &mut WriteTxn<'_>) {
        let id = NodeId::new(member.id);
        txn.member_put(id, Bytes::from(member.encode_to_vec()));
        self.members.insert(id, member);
    }
}

fn wire((alarm, member): (i32, NodeId)) -> AlarmMember {
    AlarmMember {
        member_id: member.get(),
        alarm,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use synod_engine::MemoryEngine;
    use synod_mvcc::Applied;
    use synod_mvcc::{MvccConfig, MvccStore};

    fn member(id: u64, url: &str) -> Member {
        Member {
            id,
            peer_urls: vec![url.to_owned()],
            ..Default::default()
        }
    }

    fn store() -> MvccStore {
        MvccStore::open(Arc::new(MemoryEngine::new()), MvccConfig::default()).unwrap()
    }

    #[test]
    fn what_is_stored_is_what_is_loaded() {
        let mut store = store();
        let mut roster = Roster::of([member(1, "http://a:1")]);
        let mut txn = store.begin();
        roster.store(&mut txn);
        roster.add(member(2, "http://b:1"), &mut txn).unwrap();
        roster.add(member(3, "http://c:1"), &mut txn).unwrap();
        roster.publish(
            NodeId::new(2),
            "b".into(),
            vec!["http://b:2".into()],
            &mut txn,
        );
        roster.remove(NodeId::new(3), &mut txn).unwrap();
        roster.raise(AlarmType::Nospace, NodeId::new(1), &mut txn);
        roster.set_version("3.7.0".into(), 3, &mut txn);
        roster.set_version("3.7.0".into(), 2, &mut txn);
        txn.finish();
        store.commit(Applied::default()).unwrap();
        let loaded = Roster::load(&store.view()).unwrap();
        assert_eq!(loaded, roster);
        assert_eq!(loaded.feature_level(), 3);
        assert!(loaded.removed.contains(&NodeId::new(3)));
        assert_eq!(loaded.member(NodeId::new(2)).unwrap().name, "b");
    }

    #[test]
    fn a_taken_url_and_a_removed_member_are_refused() {
        let mut store = store();
        let mut txn = store.begin();
        let mut roster = Roster::of([member(1, "http://a:1")]);
        assert_eq!(
            roster.add(member(2, "http://a:1"), &mut txn),
            Err(Error::PeerUrlExists)
        );
        roster.add(member(2, "http://b:1"), &mut txn).unwrap();
        roster.remove(NodeId::new(2), &mut txn).unwrap();
        assert_eq!(
            roster.remove(NodeId::new(2), &mut txn),
            Err(Error::MemberNotFound)
        );
        assert_eq!(
            roster.add(member(2, "http://b:1"), &mut txn),
            Err(Error::MemberExists)
        );
        let urls = vec!["http://a:9".to_owned()];
        assert_eq!(
            roster.update_peer_urls(NodeId::new(1), urls, &mut txn),
            Ok(())
        );
    }

    #[test]
    fn alarms_are_raised_once_and_disarmed_by_type_and_member() {
        let mut store = store();
        let mut txn = store.begin();
        let mut roster = Roster::of([member(1, "http://a:1"), member(2, "http://b:1")]);
        let (one, two) = (NodeId::new(1), NodeId::new(2));
        assert_eq!(roster.raise(AlarmType::Nospace, one, &mut txn).len(), 1);
        assert_eq!(roster.raise(AlarmType::Nospace, one, &mut txn).len(), 0);
        roster.raise(AlarmType::Nospace, two, &mut txn);
        roster.raise(AlarmType::Corrupt, two, &mut txn);
        assert_eq!(roster.alarms(AlarmType::None).len(), 3);
        assert_eq!(roster.disarm(AlarmType::Nospace, one, &mut txn).len(), 1);
        assert!(roster.alarmed(AlarmType::Nospace) && !roster.alarmed_by(AlarmType::Nospace, one));
        assert_eq!(
            roster.disarm(AlarmType::None, NodeId::NONE, &mut txn).len(),
            2
        );
        assert!(!roster.alarmed(AlarmType::None));
    }
}

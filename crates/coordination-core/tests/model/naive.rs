//! The model: slow and simple.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use synod_coordination_core::{
    Acl, Command, CreateMode, EventKind, Id, Kind, Machine, Op, OpError, Owner, Perms, Refused,
    Reply, SessionId, Stat, Zxid, check_acl, validate_path,
};

type Told = Vec<(EventKind, String, Vec<Acl>)>;

#[derive(Clone, Debug)]
struct Node {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    owner: Owner,
    created: i32,
    stat: Stat,
}

/// All nodes by their path. The root is the empty path.
#[derive(Clone, Debug)]
pub(crate) struct Naive {
    nodes: BTreeMap<String, Node>,
    /// With the transaction of the last attach.
    sessions: BTreeMap<SessionId, Zxid>,
    told: Told,
    zxid: Zxid,
    time_ms: i64,
}

impl Naive {
    pub(crate) fn new() -> Self {
        let node = |acl, aversion| Node {
            data: Some(Vec::new()),
            acl,
            owner: Owner::None,
            created: 0,
            stat: Stat {
                aversion,
                ..Stat::default()
            },
        };
        let nodes = [
            ("", node(Acl::open(), 0)),
            ("/zookeeper", node(Acl::open(), 0)),
            ("/zookeeper/quota", node(Acl::open(), 0)),
            ("/zookeeper/config", node(vec![Acl::world(Perms::READ)], -1)),
        ];
        Self {
            nodes: nodes.map(|(path, node)| (path.to_owned(), node)).into(),
            sessions: BTreeMap::new(),
            told: Told::new(),
            zxid: Zxid::default(),
            time_ms: 0,
        }
    }

    pub(crate) fn apply(
        &mut self,
        command: &Command,
        zxid: Zxid,
        time_ms: i64,
    ) -> (Result<Reply, Refused>, Told) {
        (self.zxid, self.time_ms) = (zxid, time_ms);
        let reply = match &command.kind {
            Kind::Write(op) => self.write(command, op).map_err(Refused::Op),
            Kind::Multi(ops) => self.multi(command, ops),
            Kind::CreateSession { .. } => {
                if let Entry::Vacant(new) = self.sessions.entry(command.session) {
                    new.insert(zxid);
                    Ok(Reply::Done)
                } else {
                    Err(Refused::Op(OpError::SessionMoved))
                }
            }
            Kind::AttachSession { .. } => match self.sessions.get_mut(&command.session) {
                Some(attached) => {
                    *attached = zxid;
                    Ok(Reply::Done)
                }
                None => Err(Refused::Op(OpError::SessionExpired)),
            },
            Kind::ExpireSession { attached } => match self.sessions.get(&command.session) {
                Some(last) if last != attached => Err(Refused::Op(OpError::SessionMoved)),
                _ => {
                    self.close(command.session);
                    Ok(Reply::Done)
                }
            },
            Kind::CloseSession => {
                self.close(command.session);
                Ok(Reply::Done)
            }
            Kind::Reap { path } => self.reap(path).map_err(Refused::Op),
            Kind::SetConfig { .. }
            | Kind::RegisterPod { .. }
            | Kind::ForgetPod { .. }
            | Kind::Nothing => {
                panic!("not generated: {command:?}")
            }
        };
        (reply, std::mem::take(&mut self.told))
    }

    fn multi(&mut self, command: &Command, ops: &[Op]) -> Result<Reply, Refused> {
        if !self.sessions.contains_key(&command.session) && ops.is_empty() {
            return Err(Refused::Op(OpError::SessionExpired));
        }
        let before = self.clone();
        let mut replies = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            match self.write(command, op) {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    *self = before;
                    return Err(Refused::Multi { index, error });
                }
            }
        }
        Ok(Reply::Multi(replies))
    }

    fn close(&mut self, session: SessionId) {
        let owned = |(path, node): (&String, &Node)| {
            (node.owner == Owner::Session(session)).then(|| path.clone())
        };
        let paths: Vec<_> = self.nodes.iter().filter_map(owned).collect();
        self.sessions.remove(&session);
        for path in paths {
            self.remove(&path);
        }
    }

    fn write(&mut self, command: &Command, op: &Op) -> Result<Reply, OpError> {
        let caller = &command.caller;
        if let Op::Create { mode, ttl_ms, .. } = op {
            let has_ttl = matches!(mode, CreateMode::Ttl | CreateMode::TtlSequential);
            if has_ttl && *ttl_ms <= 0 || !has_ttl && *ttl_ms >= 0 {
                return Err(OpError::BadArguments);
            }
        }
        if !self.sessions.contains_key(&command.session) {
            return Err(OpError::SessionExpired);
        }
        match op {
            Op::Create {
                path,
                data,
                acl,
                mode,
                ttl_ms,
            } => {
                let owner = match mode {
                    CreateMode::Persistent | CreateMode::PersistentSequential => Owner::None,
                    CreateMode::Ephemeral | CreateMode::EphemeralSequential => {
                        Owner::Session(command.session)
                    }
                    CreateMode::Container | CreateMode::ContainerSequential => Owner::Container,
                    CreateMode::Ttl | CreateMode::TtlSequential => Owner::Ttl { ttl_ms: *ttl_ms },
                };
                self.create(caller, path, data, acl, owner, mode.is_sequential())
            }
            Op::Delete { path, version } => {
                self.delete(caller, path, *version)?;
                Ok(Reply::Deleted)
            }
            Op::SetData {
                path,
                data,
                version,
            } => {
                validate_path(path)?;
                let node = self.node(path)?;
                check_acl(&node.acl, Perms::WRITE, caller)?;
                expect(node.stat.version, *version)?;
                let (zxid, time_ms) = (self.zxid, self.time_ms);
                let node = self.nodes.get_mut(key(path)).unwrap();
                node.data.clone_from(data);
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                node.stat.mtime_ms = time_ms;
                self.tell(EventKind::DataChanged, key(path));
                Ok(Reply::DataSet(self.stat(path).unwrap()))
            }
            Op::SetAcl { path, acl, version } => {
                validate_path(path)?;
                let acl = expand(acl, caller)?;
                let node = self.node(path)?;
                check_acl(&node.acl, Perms::ADMIN, caller)?;
                expect(node.stat.aversion, *version)?;
                let node = self.nodes.get_mut(key(path)).unwrap();
                node.acl = acl;
                node.stat.aversion += 1;
                Ok(Reply::AclSet(self.stat(path).unwrap()))
            }
            Op::Check { path, version } => {
                validate_path(path)?;
                let node = self.node(path)?;
                check_acl(&node.acl, Perms::READ, caller)?;
                expect(node.stat.version, *version)?;
                Ok(Reply::Checked)
            }
        }
    }

    fn create(
        &mut self,
        caller: &[Id],
        path: &str,
        data: &Option<Vec<u8>>,
        acl: &[Acl],
        owner: Owner,
        is_sequential: bool,
    ) -> Result<Reply, OpError> {
        let parent = parent(path)?.to_owned();
        let acl = expand(acl, caller)?;
        let above = self.node(&parent)?;
        check_acl(&above.acl, Perms::CREATE, caller)?;
        let mut path = path.to_owned();
        if is_sequential {
            path += &format!("{:010}", above.created);
        }
        validate_path(&path)?;
        if self.node(&path).is_ok() {
            return Err(OpError::NodeExists);
        }
        if matches!(above.owner, Owner::Session(_)) {
            return Err(OpError::NoChildrenForEphemerals);
        }
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        let above = self.nodes.get_mut(key(&parent)).unwrap();
        above.created += 1;
        above.stat.pzxid = zxid;
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            ..Stat::default()
        };
        let node = Node {
            data: data.clone(),
            acl,
            owner,
            created: 0,
            stat,
        };
        self.nodes.insert(path.clone(), node);
        self.tell(EventKind::Created, &path);
        self.tell(EventKind::ChildrenChanged, &parent);
        let stat = self.stat(&path).unwrap();
        Ok(Reply::Created { path, stat })
    }

    fn delete(&mut self, caller: &[Id], path: &str, version: i32) -> Result<(), OpError> {
        if matches!(
            path,
            "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config"
        ) {
            return Err(OpError::BadArguments);
        }
        check_acl(&self.node(parent(path)?)?.acl, Perms::DELETE, caller)?;
        let node = self.nodes.get(path).filter(|_| !path.is_empty());
        expect(node.ok_or(OpError::NoNode)?.stat.version, version)?;
        if self.children(path) > 0 {
            return Err(OpError::NotEmpty);
        }
        self.remove(path);
        Ok(())
    }

    fn reap(&mut self, path: &str) -> Result<Reply, OpError> {
        if matches!(
            path,
            "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config"
        ) {
            return Err(OpError::BadArguments);
        }
        self.node(parent(path)?)?;
        let node = self.nodes.get(path).ok_or(OpError::NoNode)?;
        if self.children(path) > 0 {
            return Err(OpError::NotEmpty);
        }
        if !is_over(node, self.time_ms) {
            return Err(OpError::BadVersion);
        }
        self.remove(path);
        Ok(Reply::Deleted)
    }

    fn remove(&mut self, path: &str) {
        let node = self.nodes.remove(path).unwrap();
        self.told
            .push((EventKind::Deleted, path.to_owned(), node.acl));
        let parent = parent(path).unwrap();
        self.nodes.get_mut(parent).unwrap().stat.pzxid = self.zxid;
        self.tell(EventKind::ChildrenChanged, parent);
    }

    fn tell(&mut self, kind: EventKind, path: &str) {
        let acl = self.nodes[path].acl.clone();
        let path = if path.is_empty() { "/" } else { path };
        self.told.push((kind, path.to_owned(), acl));
    }

    fn node(&self, path: &str) -> Result<&Node, OpError> {
        self.nodes.get(key(path)).ok_or(OpError::NoNode)
    }

    fn children(&self, path: &str) -> i32 {
        let prefix = format!("{}/", key(path));
        let is_child = |other: &&String| {
            other
                .strip_prefix(&prefix)
                .is_some_and(|name| !name.contains('/'))
        };
        i32::try_from(self.nodes.keys().filter(is_child).count()).unwrap()
    }

    fn stat(&self, path: &str) -> Option<Stat> {
        let node = self.node(path).ok()?;
        let num_children = self.children(path);
        let ephemeral_owner = match node.owner {
            Owner::Session(session) => session,
            Owner::None | Owner::Container | Owner::Ttl { .. } => SessionId::default(),
        };
        Some(Stat {
            num_children,
            cversion: 2 * node.created - num_children,
            ephemeral_owner,
            data_length: i32::try_from(node.data.as_ref().map_or(0, Vec::len)).unwrap(),
            ..node.stat
        })
    }

    /// Compares all that can be read.
    pub(crate) fn compare(&self, machine: &Machine) {
        let all = [Id::new("super", "")];
        assert_eq!(machine.node_count(), self.nodes.len());
        assert_eq!(machine.session_count(), self.sessions.len());
        for (path, node) in &self.nodes {
            let stat = self.stat(path).unwrap();
            let shown = if path.is_empty() { "/" } else { path };
            assert_eq!(
                machine.get(path, &all),
                Ok((node.data.as_deref(), stat)),
                "{path}"
            );
            assert_eq!(
                machine.acl(path, &all),
                Ok((node.acl.clone(), stat)),
                "{path}"
            );
            let (names, _) = machine.children(path, &all).unwrap();
            let names: Vec<_> = names.map(|name| format!("{path}/{name}")).collect();
            assert!(
                names.iter().all(|name| self.nodes.contains_key(name)),
                "{path}"
            );
            assert_eq!(
                names.len(),
                usize::try_from(stat.num_children).unwrap(),
                "{path}"
            );
            let prefix = format!("{path}/");
            let below = self
                .nodes
                .keys()
                .filter(|other| other.starts_with(&prefix))
                .count();
            assert_eq!(
                machine.all_children_number(shown, &all),
                Ok(below),
                "{path}"
            );
        }
        for time_ms in [0, self.time_ms, self.time_ms + 4, self.time_ms + 100] {
            let due = self
                .nodes
                .iter()
                .filter(|(path, node)| is_over(node, time_ms) && self.children(path) == 0);
            let mut found = machine.due(time_ms, usize::MAX);
            found.sort();
            assert!(due.map(|(path, _)| path).eq(&found), "due at {time_ms}");
        }
        for &session in self.sessions.keys() {
            let owned = self
                .nodes
                .values()
                .filter(|node| node.owner == Owner::Session(session));
            assert_eq!(machine.session(session).unwrap().ephemerals, owned.count());
        }
    }
}

/// Whether a node without children has reached its end.
fn is_over(node: &Node, time_ms: i64) -> bool {
    match node.owner {
        Owner::None | Owner::Session(_) => false,
        Owner::Container => node.created > 0,
        Owner::Ttl { ttl_ms } => time_ms - node.stat.mtime_ms > ttl_ms,
    }
}

fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

fn parent(path: &str) -> Result<&str, OpError> {
    match path.rfind('/') {
        Some(slash) if !path.contains('\0') => Ok(&path[..slash]),
        _ => Err(OpError::BadArguments),
    }
}

fn expect(version: i32, expected: i32) -> Result<(), OpError> {
    if expected == -1 || expected == version {
        Ok(())
    } else {
        Err(OpError::BadVersion)
    }
}

/// The generated lists have no duplicates, and no ids that are not valid.
fn expand(acl: &[Acl], caller: &[Id]) -> Result<Vec<Acl>, OpError> {
    let mut list = Vec::new();
    for acl in acl {
        if acl.id.scheme == "auth" {
            let known = caller.iter().filter(|id| id.scheme == "digest");
            list.extend(known.map(|id| Acl {
                perms: acl.perms,
                id: id.clone(),
            }));
        } else {
            list.push(acl.clone());
        }
    }
    if list.is_empty() {
        Err(OpError::InvalidAcl)
    } else {
        Ok(list)
    }
}

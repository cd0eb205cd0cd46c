//! Reads services and their instances.

use std::collections::BTreeMap;

use synod_coordination_core::{OpError, Stat, WatchKind};
use synod_proto::coordination::v1 as pb;

use super::{Instance, Registration, SERVICES};
use crate::error::Error;
use crate::hub::{Reader, View};

/// Which instances are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) selection: pb::Selection,
    pub(crate) tags: Vec<String>,
}

impl Selected {
    fn has(&self, instance: &Instance) -> bool {
        let is_passing = instance.health() == pb::Health::Passing;
        (is_passing || self.selection == pb::Selection::All)
            && self.tags.iter().all(|tag| instance.tags.contains(tag))
    }
}

/// The services of a tree.
pub(crate) struct Catalog;

impl Catalog {
    /// The names of the services, sorted.
    ///
    /// # Errors
    /// An access control list does not permit it.
    pub(crate) fn services(view: &View<'_>) -> Result<Vec<String>, Error> {
        match view.children(SERVICES) {
            Ok((names, _)) => Ok(names),
            Err(OpError::NoNode) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The instances below a service's path, by id. `None` if there is no such service.
    ///
    /// # Errors
    /// The pod does not serve, or an access control list does not permit it.
    pub(crate) fn instances(
        reader: &mut Reader,
        service: &str,
        path: &str,
        selected: &Selected,
    ) -> Result<Option<Vec<Instance>>, Error> {
        // The data is read without the lock.
        let nodes = reader.look(|view| {
            if view.stat(path).is_none() {
                return Ok(None);
            }
            nodes(view, path, |_, _| true).map(Some)
        })??;
        let read = |node: Node| node.instance(service);
        let selected = |instance: &Instance| selected.has(instance);
        Ok(nodes.map(|nodes| {
            nodes
                .into_iter()
                .filter_map(read)
                .filter(selected)
                .collect()
        }))
    }
}

/// A node below a service.
struct Node {
    id: String,
    stat: Stat,
    /// `None` if it is not read.
    data: Option<Vec<u8>>,
}

impl Node {
    /// `None` if it is none, or may not be read.
    fn instance(&self, service: &str) -> Option<Instance> {
        let registration = Registration::decode(self.data.as_deref()?)?;
        let (token, session) = (self.stat.czxid.get(), self.stat.ephemeral_owner.get());
        Some(registration.to_wire(service, &self.id, token, session))
    }
}

/// The nodes below a service, by id, with the data of those that are wanted.
fn nodes(
    view: &View<'_>,
    path: &str,
    is_wanted: impl Fn(&str, &Stat) -> bool,
) -> Result<Vec<Node>, Error> {
    let names = match view.children(path) {
        Ok((names, _)) => names,
        Err(OpError::NoNode) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let nodes = names.into_iter().filter_map(|id| {
        let path = format!("{path}/{id}");
        let stat = view.stat(&path)?;
        let data = match is_wanted(&id, &stat) {
            // One that may not be read is none.
            true => view.get(&path).ok().map(|(data, _)| data.to_vec()),
            false => None,
        };
        Some(Node { id, stat, data })
    });
    Ok(nodes.collect())
}

/// What a watcher of a service was told.
pub(crate) struct Deltas {
    service: String,
    path: String,
    selected: Selected,
    seen: BTreeMap<String, Seen>,
}

/// A node as it was last read.
struct Seen {
    /// The transactions that created and changed it.
    state: (i64, i64),
    /// `None` if it is not selected, or no instance.
    told: Option<Instance>,
}

impl Deltas {
    pub(crate) fn new(service: String, path: String, selected: Selected) -> Self {
        Self {
            service,
            path,
            selected,
            seen: BTreeMap::new(),
        }
    }

    /// What has changed since the last call, and is to be told. Leaves watches for the next change.
    ///
    /// # Errors
    /// The pod does not serve, or has no room for watches.
    pub(crate) fn next(
        &mut self,
        reader: &mut Reader,
    ) -> Result<(Vec<Instance>, Vec<String>), Error> {
        let nodes = reader.look(|view| {
            if !view.watch(&self.path, WatchKind::Data) || !view.watch(&self.path, WatchKind::Child)
            {
                return Err(Error::Throttled);
            }
            let is_new = |id: &str, stat: &Stat| {
                self.seen
                    .get(id)
                    .is_none_or(|seen| seen.state != state(stat))
            };
            let nodes = nodes(view, &self.path, is_new)?;
            let watched =
                |node: &Node| view.watch(&format!("{}/{}", self.path, node.id), WatchKind::Data);
            match nodes.iter().all(watched) {
                true => Ok(nodes),
                false => Err(Error::Throttled),
            }
        })??;
        Ok(self.compare(nodes))
    }

    fn compare(&mut self, nodes: Vec<Node>) -> (Vec<Instance>, Vec<String>) {
        let mut before = std::mem::take(&mut self.seen);
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for node in nodes {
            let former = before.remove(&node.id);
            let state = state(&node.stat);
            if let Some(former) = former.as_ref().filter(|former| former.state == state) {
                let told = former.told.clone();
                self.seen.insert(node.id, Seen { state, told });
                continue;
            }
            let instance = node.instance(&self.service);
            let told = instance.filter(|instance| self.selected.has(instance));
            let former = former.and_then(|former| former.told);
            match &told {
                Some(instance) if former.as_ref() != Some(instance) => {
                    changed.push(instance.clone());
                }
                None if former.is_some() => removed.push(node.id.clone()),
                Some(_) | None => {}
            }
            self.seen.insert(node.id, Seen { state, told });
        }
        let gone = before.into_iter().filter(|(_, seen)| seen.told.is_some());
        removed.extend(gone.map(|(id, _)| id));
        (changed, removed)
    }
}

fn state(stat: &Stat) -> (i64, i64) {
    (stat.czxid.get(), stat.mzxid.get())
}

//! Interning tables for nodes' states, messages and histories, and a cache of known steps.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use synod_consensus_core::Message;

use crate::{
    ghost::Ghost,
    node::{Effects, Node},
};

/// Maps values to numbers and back.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    values: Vec<Arc<T>>,
    numbers: HashMap<Arc<T>, u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<T: Eq + Hash> Interned<T> {
    pub(crate) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).expect("fewer than 2^32 of a kind");
        let value = Arc::new(value);
        self.values.push(Arc::clone(&value));
        self.numbers.insert(value, number);
        number
    }

    pub(crate) fn get(&self, number: u32) -> &Arc<T> {
        &self.values[usize::try_from(number).expect("a 32-bit target at least")]
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

/// An event at a node, without the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Deliver(u32),
    Propose(u8),
    Change,
    Read(u8),
    Tick,
    Persist,
    Install,
    Crash(u8),
}

/// The result of an event.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) node: u32,
    /// The sent messages, in ascending order without duplicates.
    pub(crate) sent: Vec<u32>,
    /// What the ghost needs to see; `None` for most steps.
    pub(crate) news: Option<Arc<Effects>>,
    pub(crate) panicked: bool,
}

/// Everything seen so far.
#[derive(Debug)]
pub(crate) struct Tables<C> {
    pub(crate) nodes: Interned<Node<C>>,
    pub(crate) messages: Interned<Message>,
    pub(crate) ghosts: Interned<Ghost>,
    pub(crate) steps: HashMap<(u32, Event), Arc<Outcome>>,
}

impl<C> Default for Tables<C> {
    fn default() -> Self {
        Self {
            nodes: Interned::default(),
            messages: Interned::default(),
            ghosts: Interned::default(),
            steps: HashMap::new(),
        }
    }
}

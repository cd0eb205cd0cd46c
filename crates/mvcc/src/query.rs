//! What can be asked.

use bytes::Bytes;

use crate::{KeyRange, KeyValueView, LeaseId, Revision};

/// By what a result is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// Changes since the creation.
    Version,
    /// Revision of the creation.
    Create,
    /// Revision of the last change.
    Mod,
    /// The value's bytes.
    Value,
}

/// In which direction a result is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortOrder {
    /// Ascending; the limit counts in key order, before sorting.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// Inclusive bounds on a revision; zero is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RevisionBounds {
    /// The smallest revision that passes.
    pub min: Revision,
    /// The largest revision that passes.
    pub max: Revision,
}

impl RevisionBounds {
    pub(crate) fn is_open(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn admits(self, revision: Revision) -> bool {
        (self.min == Revision::ZERO || revision >= self.min)
            && (self.max == Revision::ZERO || revision <= self.max)
    }
}

/// A read of one key or a range of keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeQuery {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision; nothing is the current one.
    pub revision: Option<Revision>,
    /// The most keys to return; zero is no limit.
    pub limit: usize,
    /// By what to sort.
    pub target: SortTarget,
    /// In which direction to sort.
    pub order: SortOrder,
    /// Leave out values (and leases, unless sorted by value).
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
    /// Bounds on the revision of the last change.
    pub modified: RevisionBounds,
    /// Bounds on the revision of the creation.
    pub created: RevisionBounds,
    /// The most bytes of records to gather; more is an error. `usize::MAX` by default.
    pub max_bytes: usize,
}

impl RangeQuery {
    /// Everything within `range` at the current revision.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: None,
            limit: 0,
            target: SortTarget::Key,
            order: SortOrder::None,
            keys_only: false,
            count_only: false,
            modified: RevisionBounds {
                min: Revision::ZERO,
                max: Revision::ZERO,
            },
            created: RevisionBounds {
                min: Revision::ZERO,
                max: Revision::ZERO,
            },
            max_bytes: usize::MAX,
        }
    }

    pub(crate) fn has_filters(&self) -> bool {
        !self.modified.is_open() || !self.created.is_open()
    }
}

/// The answer to a [`RangeQuery`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeResult {
    /// Wire forms of `mvccpb.KeyValue`.
    pub kvs: Vec<Bytes>,
    /// Keys within the range, regardless of limit and filters.
    pub count: u64,
    /// Whether the limit cut the result.
    pub more: bool,
    /// The store's current revision.
    pub revision: Revision,
}

/// What is compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompareTarget {
    /// Changes since the creation.
    Version(i64),
    /// Revision of the creation.
    Create(Revision),
    /// Revision of the last change.
    Mod(Revision),
    /// The value.
    Value(Bytes),
    /// The attached lease.
    Lease(LeaseId),
}

/// How what is stored has to relate to the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompareOp {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
}

/// A condition on a key, or on every key of a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// Against what.
    pub target: CompareTarget,
    /// How.
    pub op: CompareOp,
}

impl Compare {
    /// Whether it holds for a stored record.
    pub(crate) fn holds_for(&self, view: &KeyValueView, record: &[u8]) -> bool {
        let ordering = match &self.target {
            CompareTarget::Version(version) => view.version.cmp(version),
            CompareTarget::Create(revision) => view.create.cmp(revision),
            CompareTarget::Mod(revision) => view.modified.cmp(revision),
            CompareTarget::Value(value) => view.value(record).cmp(&value[..]),
            CompareTarget::Lease(lease) => view.lease.cmp(lease),
        };
        self.op.admits(ordering)
    }

    /// Whether it holds where there is no key: a value has nothing to be compared with, the rest is
    /// zero.
    pub(crate) fn holds_for_nothing(&self) -> bool {
        let ordering = match &self.target {
            CompareTarget::Version(version) => 0.cmp(version),
            CompareTarget::Create(revision) | CompareTarget::Mod(revision) => {
                Revision::ZERO.cmp(revision)
            }
            CompareTarget::Value(_) => return false,
            CompareTarget::Lease(lease) => LeaseId::NONE.cmp(lease),
        };
        self.op.admits(ordering)
    }
}

impl CompareOp {
    fn admits(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
        }
    }
}

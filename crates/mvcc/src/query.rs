//! Queries and conditions.

use bytes::Bytes;

use crate::{KeyRange, KeyValueView, LeaseId, Revision};

/// The field by which a result is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The number of changes since the key was created.
    Version,
    /// The revision at which the key was created.
    Create,
    /// The revision of the last change.
    Mod,
    /// The value's bytes.
    Value,
}

/// The direction in which a result is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortOrder {
    /// Ascending; unlike `Ascend`, the limit is applied in key order, before sorting.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// Inclusive bounds on a revision; zero means unbounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RevisionBounds {
    /// The smallest revision that matches.
    pub min: Revision,
    /// The largest revision that matches.
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
    /// The keys to read.
    pub range: KeyRange,
    /// The revision to read at; `None` means the current one.
    pub revision: Option<Revision>,
    /// The maximum number of keys to return; zero means no limit.
    pub limit: usize,
    /// The field to sort by.
    pub target: SortTarget,
    /// The direction to sort in.
    pub order: SortOrder,
    /// Leave out values (and leases, unless sorted by value).
    pub keys_only: bool,
    /// Return only the count.
    pub count_only: bool,
    /// Bounds on the revision of the last change.
    pub modified: RevisionBounds,
    /// Bounds on the revision of the creation.
    pub created: RevisionBounds,
    /// The maximum size of the records to gather, in bytes; more is an error. Default:
    /// `usize::MAX`.
    pub max_bytes: usize,
}

impl RangeQuery {
    /// A query for everything within `range` at the current revision.
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

/// The result of a [`RangeQuery`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeResult {
    /// The keys, in the wire form of `mvccpb.KeyValue`.
    pub kvs: Vec<Bytes>,
    /// The number of keys within the range, regardless of limit and filters.
    pub count: u64,
    /// Whether the limit truncated the result.
    pub more: bool,
    /// The store's current revision.
    pub revision: Revision,
}

/// The field and value to compare with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompareTarget {
    /// The number of changes since the key was created.
    Version(i64),
    /// The revision at which the key was created.
    Create(Revision),
    /// The revision of the last change.
    Mod(Revision),
    /// The value.
    Value(Bytes),
    /// The attached lease.
    Lease(LeaseId),
}

/// How the stored field must relate to the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompareOp {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// The stored field is greater.
    Greater,
    /// The stored field is less.
    Less,
}

/// A condition on a key, or on every key of a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// The keys to compare.
    pub range: KeyRange,
    /// The field and value to compare with.
    pub target: CompareTarget,
    /// The comparison.
    pub op: CompareOp,
}

impl Compare {
    /// Whether the condition holds for a stored record.
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

    /// Whether the condition holds for a missing key. A value comparison fails; the other fields
    /// count as zero.
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

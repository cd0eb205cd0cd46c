//! Where everything is kept below the root.

use synod_coordination_core::{LogNumber, PageId, Zxid};

/// The keys of one coordination service. All start with its root.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    root: String,
}

/// The keys from `start` on, before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Keys {
    /// The keys below this root.
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: root.trim_end_matches('/').to_owned(),
        }
    }

    /// The key that the leading pod holds.
    pub(crate) fn leader(&self) -> Vec<u8> {
        self.below("leader")
    }

    /// The key of the last complete checkpoint.
    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        self.below("checkpoint")
    }

    /// A batch.
    pub(crate) fn batch(&self, number: LogNumber) -> Vec<u8> {
        self.below(&format!("log/{:016x}", number.get()))
    }

    /// The batches from `first` on.
    pub(crate) fn batches_from(&self, first: LogNumber) -> KeyRange {
        KeyRange {
            start: self.batch(first),
            end: self.folder("log").end,
        }
    }

    /// The batches before `end`.
    pub(crate) fn batches_before(&self, end: LogNumber) -> KeyRange {
        KeyRange {
            start: self.batch(LogNumber::default()),
            end: self.batch(end),
        }
    }

    /// The number of a batch's key; `None` for any other key.
    pub(crate) fn number(&self, key: &[u8]) -> Option<LogNumber> {
        let digits = key.strip_prefix(self.below("log/").as_slice())?;
        let digits = std::str::from_utf8(digits).ok()?;
        let number = LogNumber::new(u64::from_str_radix(digits, 16).ok()?);
        (self.batch(number) == key).then_some(number)
    }

    /// All pages of all checkpoints.
    pub(crate) fn pages(&self) -> KeyRange {
        self.folder("page")
    }

    /// The parts of a page, as the transaction `modified` left it.
    pub(crate) fn page(&self, page: PageId, modified: Zxid) -> KeyRange {
        self.folder(&format!("page/{page}/{:016x}", modified.get()))
    }

    /// A part of a page.
    pub(crate) fn part(&self, page: PageId, modified: Zxid, part: usize) -> Vec<u8> {
        self.below(&format!("page/{page}/{:016x}/{part:04x}", modified.get()))
    }

    /// The page that a part belongs to: the start of its [`page`](Self::page) range.
    pub(crate) fn page_of(part: &[u8]) -> &[u8] {
        let slash = part.iter().rposition(|&byte| byte == b'/');
        slash.map_or(part, |slash| &part[..=slash])
    }

    fn below(&self, name: &str) -> Vec<u8> {
        format!("{}/{name}", self.root).into_bytes()
    }

    fn folder(&self, name: &str) -> KeyRange {
        // '0' is the character after '/'.
        KeyRange {
            start: self.below(&format!("{name}/")),
            end: self.below(&format!("{name}0")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new("/synod/zk/")
    }

    fn contains(range: &KeyRange, key: &[u8]) -> bool {
        range.start.as_slice() <= key && key < range.end.as_slice()
    }

    #[test]
    fn batches_sort_by_number_and_are_recognized() {
        let keys = keys();
        let batch = |number| keys.batch(LogNumber::new(number));
        assert_eq!(batch(0x1a), b"/synod/zk/log/000000000000001a");
        assert!(batch(9) < batch(10) && batch(255) < batch(256));
        assert_eq!(keys.number(&batch(77)), Some(LogNumber::new(77)));
        for other in [
            "/synod/zk/log/1a",
            "/synod/zk/log/00000000000000+1",
            "/synod/zk/log/000000000000001A",
            "/synod/zk/leader",
        ] {
            assert_eq!(keys.number(other.as_bytes()), None, "{other}");
        }
        let from = keys.batches_from(LogNumber::new(5));
        assert!(!contains(&from, &batch(4)) && contains(&from, &batch(5)));
        assert!(contains(&from, &batch(u64::MAX)));
        let before = keys.batches_before(LogNumber::new(5));
        assert!(contains(&before, &batch(4)) && !contains(&before, &batch(5)));
    }

    #[test]
    fn a_page_is_kept_by_its_last_transaction() {
        let keys = keys();
        let (page, zxid) = (PageId::Nodes(1), Zxid::new(0x12));
        let part = keys.part(page, zxid, 3);
        assert_eq!(part, b"/synod/zk/page/nodes/1/0000000000000012/0003");
        let range = keys.page(page, zxid);
        assert!(contains(&range, &part) && contains(&keys.pages(), &part));
        assert_eq!(Keys::page_of(&part), range.start);
        let other = keys.part(PageId::Nodes(12), zxid, 0);
        assert!(!contains(&range, &other));
        assert!(!contains(&keys.pages(), &keys.checkpoint()));
    }
}

//! The clients' commands for the keyspace and their results.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Identifies a client's operation across retries. Zero means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpId(pub(crate) u64);

/// A key. There are only a few, so that clients conflict.
pub(crate) type Key = u8;
/// A value. Each operation writes a different one.
pub(crate) type Value = u64;

/// A change of the keyspace, as stored in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) op: OpId,
    pub(crate) write: Write,
}

/// The kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Put(Key, Value),
    Delete(Key),
    /// A transaction: sets the key to `new` if it has the value `expect`, and otherwise reads it.
    Cas {
        key: Key,
        expect: Option<Value>,
        new: Value,
    },
    /// Compacts the revisions before this one.
    Compact(i64),
}

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Applied {
    /// The keyspace's revision after the command.
    pub(crate) revision: i64,
    pub(crate) outcome: WriteOutcome,
}

/// The effect of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WriteOutcome {
    Done,
    /// A deletion, with the number of deleted keys.
    Deleted(u64),
    Swapped,
    /// The comparison failed; the key had this value.
    Kept(Option<Value>),
    /// A compaction to a revision that is already compacted or doesn't exist yet.
    Refused,
    /// One of the core's own entries.
    Nothing,
}

impl Command {
    pub(crate) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u64(self.op.0);
        match self.write {
            Write::Put(key, value) => {
                out.put_slice(&[0, key]);
                out.put_u64(value);
            }
            Write::Delete(key) => out.put_slice(&[1, key]),
            Write::Cas { key, expect, new } => {
                out.put_slice(&[2, key, u8::from(expect.is_some())]);
                out.put_u64(expect.unwrap_or(0));
                out.put_u64(new);
            }
            Write::Compact(revision) => {
                out.put_u8(3);
                out.put_i64(revision);
            }
        }
        out.freeze()
    }

    pub(crate) fn decode(mut data: &[u8]) -> Option<Self> {
        let op = OpId(data.try_get_u64().ok()?);
        let write = match data.try_get_u8().ok()? {
            0 => Write::Put(data.try_get_u8().ok()?, data.try_get_u64().ok()?),
            1 => Write::Delete(data.try_get_u8().ok()?),
            2 => {
                let key = data.try_get_u8().ok()?;
                let some = data.try_get_u8().ok()? == 1;
                let expect = data.try_get_u64().ok()?;
                Write::Cas {
                    key,
                    expect: some.then_some(expect),
                    new: data.try_get_u64().ok()?,
                }
            }
            3 => Write::Compact(data.try_get_i64().ok()?),
            _ => return None,
        };
        data.is_empty().then_some(Self { op, write })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_log() {
        let writes = [
            Write::Put(3, 9),
            Write::Delete(1),
            Write::Cas {
                key: 2,
                expect: None,
                new: 8,
            },
            Write::Cas {
                key: 2,
                expect: Some(8),
                new: 9,
            },
            Write::Compact(17),
        ];
        for write in writes {
            let command = Command {
                op: OpId(77),
                write,
            };
            let data = command.encode();
            assert_eq!(Command::decode(&data), Some(command));
            assert_eq!(Command::decode(&data[..data.len() - 1]), None);
        }
    }
}

//! Batches as bytes: what the shared log stores, and what pods send to the sequencer.

use super::{Batch, Command, Kind, Op, Origin, Password};
use crate::codec::{Reader, Writer};
use crate::{CreateMode, DecodeError, Id, PodId, SessionId, Zxid, acl};

const VERSION: u8 = 1;

impl Batch {
    /// The batch as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.i64(self.first.get());
        out.i64(self.time_ms);
        out.len(self.commands.len());
        for command in &self.commands {
            command.write(&mut out);
        }
        out.into_bytes()
    }

    /// Reads a batch. It allocates in proportion to the input.
    ///
    /// # Errors
    /// The bytes are not those of a batch, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        check_version(&mut input)?;
        let batch = Self {
            first: Zxid::new(input.i64()?),
            time_ms: input.i64()?,
            commands: list(&mut input, Command::MIN_BYTES, Command::read)?,
        };
        input.finish()?;
        let count = i64::try_from(batch.commands.len()).ok();
        if count
            .and_then(|count| batch.first.get().checked_add(count))
            .is_none()
        {
            return Err(DecodeError::Invalid("zxid"));
        }
        Ok(batch)
    }
}

impl Command {
    const MIN_BYTES: usize = 4;

    /// The command as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads a command. It allocates in proportion to the input.
    ///
    /// # Errors
    /// The bytes are not those of a command, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        check_version(&mut input)?;
        let command = Self::read(&mut input)?;
        input.finish()?;
        Ok(command)
    }

    fn write(&self, out: &mut Writer) {
        match self.origin {
            None => out.u8(0),
            Some(Origin { pod, number }) => {
                out.u8(1);
                out.u64(pod.get());
                out.varint(number);
            }
        }
        out.varint(zigzag(self.session.get()));
        out.len(self.caller.len());
        for id in &self.caller {
            id.encode(out);
        }
        self.kind.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let origin = match input.u8()? {
            0 => None,
            1 => Some(Origin {
                pod: PodId::new(input.u64()?),
                number: input.varint()?,
            }),
            _ => return Err(DecodeError::Invalid("origin")),
        };
        Ok(Self {
            origin,
            session: SessionId::new(unzigzag(input.varint()?)),
            caller: list(input, 2, Id::decode)?,
            kind: Kind::read(input)?,
        })
    }
}

impl Kind {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Write(op) => {
                out.u8(0);
                op.write(out);
            }
            Self::Multi(ops) => {
                out.u8(1);
                out.len(ops.len());
                for op in ops {
                    op.write(out);
                }
            }
            Self::CreateSession {
                timeout_ms,
                password,
            } => {
                out.u8(2);
                write_session(*timeout_ms, password, out);
            }
            Self::AttachSession {
                timeout_ms,
                password,
            } => {
                out.u8(3);
                write_session(*timeout_ms, password, out);
            }
            Self::CloseSession => out.u8(4),
            Self::Reap { path } => {
                out.u8(5);
                out.text(path);
            }
            Self::SetConfig { data } => {
                out.u8(6);
                out.bytes(data);
            }
            Self::RegisterPod { seen } => {
                out.u8(7);
                out.i64(seen.get());
            }
            Self::ForgetPod { pod, last } => {
                out.u8(8);
                out.u64(pod.get());
                out.varint(*last);
            }
            Self::Nothing => out.u8(9),
            Self::ExpireSession { attached } => {
                out.u8(10);
                out.i64(attached.get());
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8()? {
            0 => Self::Write(Op::read(input)?),
            1 => Self::Multi(list(input, Op::MIN_BYTES, Op::read)?),
            2 => {
                let (timeout_ms, password) = read_session(input)?;
                Self::CreateSession {
                    timeout_ms,
                    password,
                }
            }
            3 => {
                let (timeout_ms, password) = read_session(input)?;
                Self::AttachSession {
                    timeout_ms,
                    password,
                }
            }
            4 => Self::CloseSession,
            5 => Self::Reap {
                path: input.text()?.to_owned(),
            },
            6 => Self::SetConfig {
                data: input.bytes()?.to_vec(),
            },
            7 => Self::RegisterPod {
                seen: Zxid::new(input.i64()?),
            },
            8 => Self::ForgetPod {
                pod: PodId::new(input.u64()?),
                last: input.varint()?,
            },
            9 => Self::Nothing,
            10 => Self::ExpireSession {
                attached: Zxid::new(input.i64()?),
            },
            _ => return Err(DecodeError::Invalid("kind of command")),
        })
    }
}

fn write_session(timeout_ms: u32, password: &Password, out: &mut Writer) {
    out.varint(timeout_ms.into());
    out.raw(password.get());
}

fn read_session(input: &mut Reader<'_>) -> Result<(u32, Password), DecodeError> {
    Ok((input.varint_u32()?, Password::new(input.array()?)))
}

impl Op {
    const MIN_BYTES: usize = 3;

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Create {
                path,
                data,
                acl,
                mode,
                ttl_ms,
            } => {
                out.u8(mode_tag(*mode));
                out.text(path);
                out.optional(data.as_deref());
                acl::encode(acl, out);
                out.varint(zigzag(*ttl_ms));
            }
            Self::Delete { path, version } => {
                out.u8(0x10);
                write_target(path, *version, out);
            }
            Self::SetData {
                path,
                data,
                version,
            } => {
                out.u8(0x11);
                write_target(path, *version, out);
                out.optional(data.as_deref());
            }
            Self::SetAcl { path, acl, version } => {
                out.u8(0x12);
                write_target(path, *version, out);
                acl::encode(acl, out);
            }
            Self::Check { path, version } => {
                out.u8(0x13);
                write_target(path, *version, out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = input.u8()?;
        if let Some(mode) = mode_of(tag) {
            return Ok(Self::Create {
                path: input.text()?.to_owned(),
                data: input.optional()?.map(<[u8]>::to_vec),
                acl: acl::decode(input)?,
                mode,
                ttl_ms: unzigzag(input.varint()?),
            });
        }
        let (path, version) = read_target(input)?;
        Ok(match tag {
            0x10 => Self::Delete { path, version },
            0x11 => Self::SetData {
                path,
                data: input.optional()?.map(<[u8]>::to_vec),
                version,
            },
            0x12 => Self::SetAcl {
                path,
                acl: acl::decode(input)?,
                version,
            },
            0x13 => Self::Check { path, version },
            _ => return Err(DecodeError::Invalid("operation")),
        })
    }
}

const CONTAINER_SEQUENTIAL: u8 = 7;

/// ZooKeeper's flag, but for the mode that has none.
fn mode_tag(mode: CreateMode) -> u8 {
    match mode {
        CreateMode::Persistent => 0,
        CreateMode::Ephemeral => 1,
        CreateMode::PersistentSequential => 2,
        CreateMode::EphemeralSequential => 3,
        CreateMode::Container => 4,
        CreateMode::Ttl => 5,
        CreateMode::TtlSequential => 6,
        CreateMode::ContainerSequential => CONTAINER_SEQUENTIAL,
    }
}

fn mode_of(tag: u8) -> Option<CreateMode> {
    if tag == CONTAINER_SEQUENTIAL {
        return Some(CreateMode::ContainerSequential);
    }
    CreateMode::from_flag(tag.into()).ok()
}

fn write_target(path: &str, version: i32, out: &mut Writer) {
    out.text(path);
    out.varint(zigzag(version.into()));
}

fn read_target(input: &mut Reader<'_>) -> Result<(String, i32), DecodeError> {
    let path = input.text()?.to_owned();
    let version = i32::try_from(unzigzag(input.varint()?));
    Ok((path, version.map_err(|_| DecodeError::Invalid("version"))?))
}

fn check_version(input: &mut Reader<'_>) -> Result<(), DecodeError> {
    match input.u8()? {
        VERSION => Ok(()),
        version => Err(DecodeError::Version(version)),
    }
}

fn list<'a, T>(
    input: &mut Reader<'a>,
    min_bytes: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    (0..input.count(min_bytes)?).map(|_| read(input)).collect()
}

/// Numbers near zero, of either sign, become small.
fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

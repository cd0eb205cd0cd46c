//! Starting a core from what the disk kept.

use synod_types::{Ballot, Index, LogPosition, Tick};

use super::{
    Part, Promise, Raft, Seen, forward::Forwarding, log::Log, members::Configs, rng::Rng,
    storage::Storage,
};
use crate::{ConfigCommand, ConfigError, CoreConfig, EntryKind, Ready, Restored, Role, RoleChange};

impl Raft {
    /// Starts a core.
    ///
    /// A group of one elects itself at the first tick. Any other node that has a past neither votes nor
    /// campaigns for an election timeout: it may have promised a leader not to, and a lease may rest on it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] where a setting is out of range, or what was restored is damaged or incomplete.
    pub fn new(config: CoreConfig, restored: Restored, now: Tick) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut rng = Rng::new(config.seed);
        let loaded = Loaded::check(restored)?;
        let hard_state = loaded.restored.hard_state;
        let last = loaded.log.last();
        let mut ballot = hard_state.ballot;
        let mut vote = hard_state.vote;
        if last.ballot > ballot {
            // A crash between the entries and the hard state of one Ready, or of a snapshot.
            ballot = last.ballot;
            vote = None;
        }
        let mut storage = Storage::new(hard_state, last.index);
        if loaded.reset {
            storage.reset(loaded.restored.start);
        }
        let is_sole = loaded.configs.current().is_sole_voter(config.id);
        let has_past = ballot > Ballot::ZERO;
        let silent_until = if has_past && !is_sole && config.check_quorum {
            now.plus(config.election_ticks)
        } else {
            Tick::ZERO
        };
        let forwarding = Forwarding::new(rng.next(), rng.next());
        let mut raft = Self {
            rng,
            now,
            ballot,
            vote,
            part: Part::Follower,
            leader: None,
            log: loaded.log,
            configs: loaded.configs,
            storage,
            commit: loaded.commit,
            handed: loaded.applied,
            applied: loaded.applied,
            installing: None,
            promise: Promise::default(),
            silent_until,
            election_timeout: 0,
            election_deadline: now,
            forwarding,
            seen: Seen::default(),
            removed: false,
            failed: false,
            announced: RoleChange {
                role: Role::Follower,
                leader: None,
                ballot,
            },
            out: Ready::default(),
            config,
        };
        raft.config_committed(raft.log.start().index);
        raft.draw_timeout();
        if is_sole {
            // Nobody to wait for.
            raft.election_deadline = now;
        }
        Ok(raft)
    }
}

/// What was restored, checked.
struct Loaded {
    restored: Restored,
    log: Log,
    configs: Configs,
    commit: Index,
    applied: Index,
    /// The log on disk must be replaced by `restored.start`.
    reset: bool,
}

impl Loaded {
    fn check(mut restored: Restored) -> Result<Self, ConfigError> {
        restored.start.membership.validate()?;
        let applied = restored.applied.last;
        if applied.index < restored.start.last.index {
            return Err(ConfigError::LostApplied {
                start: restored.start.last.index,
                applied: applied.index,
            });
        }
        let reset = !Self::holds(&restored, applied);
        if reset {
            // A snapshot was installed and the log not reset before the crash.
            restored.applied.membership.validate()?;
            restored.start = restored.applied.clone();
            restored.entries.clear();
            restored.hard_state.commit = restored.hard_state.commit.min(applied.index);
        }
        let mut log = Log::new(restored.start.last);
        let mut configs =
            Configs::new(restored.start.last.index, restored.start.membership.clone());
        for entry in std::mem::take(&mut restored.entries) {
            let after = log.last();
            let found = entry.position();
            if found.index != after.index.next() || found.ballot < after.ballot {
                return Err(ConfigError::Gap { after, found });
            }
            if entry.kind == EntryKind::Config {
                let index = entry.index;
                let command = ConfigCommand::decode(entry.data.clone())
                    .map_err(|error| ConfigError::Entry { index, error })?;
                configs.push(index, command.membership);
            }
            log.push(entry);
        }
        let commit = restored.hard_state.commit.max(applied.index);
        let last = log.last().index;
        if commit > last {
            return Err(ConfigError::LostCommitted { commit, last });
        }
        Ok(Self {
            restored,
            log,
            configs,
            commit,
            applied: applied.index,
            reset,
        })
    }

    /// Whether the log has what the state machine has applied.
    fn holds(restored: &Restored, applied: LogPosition) -> bool {
        applied == restored.start.last
            || restored
                .entries
                .iter()
                .any(|entry| entry.position() == applied)
    }
}

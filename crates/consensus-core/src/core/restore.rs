//! Starting a core from stored state.

use synod_types::{Ballot, Index, SplitMix64, Tick};

use super::{
    Core, Part, Promise, Protocol, Seen, forward::Forwarding, log::Log, members::Configs,
    storage::Storage,
};
use crate::{ConfigError, CoreConfig, HardState, Ready, Restored, Role, RoleChange, Write};

impl<P: Protocol> Core<P> {
    /// Starts a core.
    ///
    /// A group of one elects itself at the first tick. Any other node with previous state neither
    /// votes nor campaigns for an election timeout: it may have promised a leader not to, and a
    /// lease may depend on that promise.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is out of range, or the restored state is damaged or
    /// incomplete.
    pub fn new(config: CoreConfig, restored: Restored, now: Tick) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut rng = SplitMix64::new(config.seed);
        check(&restored)?;
        let loaded = P::load(restored)?;
        loaded.check()?;
        let is_sole = P::is_sole(&loaded, config.id);
        let hard_state = loaded.hard_state;
        let mut ballot = hard_state.ballot;
        let mut vote = hard_state.vote;
        if loaded.ballot > ballot {
            // A crash between the entries and the hard state of one `Ready`, or of a snapshot.
            ballot = loaded.ballot;
            vote = None;
        }
        let mut storage = Storage::new(hard_state, loaded.log.last().index);
        if let Some(write) = loaded.replace {
            storage.replace(write, loaded.log.start().index);
        }
        let has_past = ballot > Ballot::ZERO;
        let silent_until = if has_past && !is_sole && config.check_quorum {
            now.plus(config.election_ticks)
        } else {
            Tick::ZERO
        };
        let forwarding = Forwarding::new(rng.next_u64(), rng.next_u64());
        let mut core = Self {
            rules: P::default(),
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
            gone: None,
            forwarding,
            seen: Seen::default(),
            removed: false,
            failed: false,
            announced: RoleChange {
                role: Role::Follower,
                leader: None,
                ballot,
            },
            stirred: true,
            out: Ready::default(),
            spare: Vec::new(),
            config,
        };
        let start = core.log.start().index;
        P::committed(&mut core, start);
        core.draw_timeout();
        if is_sole {
            // Nobody to wait for.
            core.election_deadline = now;
        }
        Ok(core)
    }
}

/// Checks that the log and the state machine can belong to the same node.
fn check(restored: &Restored) -> Result<(), ConfigError> {
    restored.start.membership.validate()?;
    let (start, applied) = (restored.start.last.index, restored.applied.last.index);
    if applied < start {
        return Err(ConfigError::LostApplied { start, applied });
    }
    Ok(())
}

/// The restored state, after checks.
pub struct Loaded {
    pub(super) hard_state: HardState,
    /// The highest ballot in the log.
    pub(super) ballot: Ballot,
    pub(super) log: Log,
    pub(super) configs: Configs,
    pub(super) commit: Index,
    pub(super) applied: Index,
    /// The write that brings the log on disk up to the state machine, if it is behind.
    pub(super) replace: Option<Write>,
}

impl Loaded {
    /// Checks that the log holds everything that is known to be committed.
    fn check(&self) -> Result<(), ConfigError> {
        let (commit, last) = (self.commit, self.log.last().index);
        if commit > last {
            return Err(ConfigError::LostCommitted { commit, last });
        }
        Ok(())
    }
}

//! Loading the stored state after a restart.

use crate::core::{log::Log, members::Configs, restore::Loaded};
use crate::{ConfigCommand, ConfigError, EntryKind, Restored, Write};

pub(super) fn load(mut restored: Restored) -> Result<Loaded, ConfigError> {
    let applied = restored.applied.last;
    let hard_state = restored.hard_state;
    // Everything applied is chosen. But entries are known to be the chosen ones only up to the
    // commit index that was written with them: later ones may have been overwritten only in memory,
    // or skipped by a snapshot, before the crash.
    let is_behind = applied.index > hard_state.commit.max(restored.start.last.index);
    if is_behind {
        restored.applied.membership.validate()?;
        restored.start = restored.applied.clone();
        restored.entries.retain(|entry| entry.index > applied.index);
    }
    let mut ballot = applied.ballot.max(restored.start.last.ballot);
    let mut log = Log::new(restored.start.last);
    let mut before = restored.start.last;
    for entry in std::mem::take(&mut restored.entries) {
        let found = entry.position();
        if found.index <= before.index {
            return Err(ConfigError::Gap {
                after: before,
                found,
            });
        }
        if entry.kind == EntryKind::Config {
            let index = entry.index;
            ConfigCommand::decode(entry.data.clone())
                .map_err(|error| ConfigError::Entry { index, error })?;
        }
        ballot = ballot.max(found.ballot);
        before = found;
        if found.index == log.last().index.next() {
            log.push(entry);
        } else {
            log.put_after_gap(entry);
        }
    }
    let commit = hard_state.commit.max(applied.index);
    let start = restored.start;
    Ok(Loaded {
        hard_state,
        ballot,
        log,
        // The later ones are adopted by `slots_chosen`, which `Core::new` calls.
        configs: Configs::new(start.last.index, start.membership.clone()),
        commit,
        applied: applied.index,
        replace: is_behind.then_some(Write::Advance(start)),
    })
}

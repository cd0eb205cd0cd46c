//! Loading the stored state after a restart.

use synod_types::LogPosition;

use crate::core::{log::Log, members::Configs, restore::Loaded};
use crate::{ConfigCommand, ConfigError, EntryKind, Restored, Write};

pub(super) fn load(mut restored: Restored) -> Result<Loaded, ConfigError> {
    let applied = restored.applied.last;
    let reset = !holds(&restored, applied);
    if reset {
        // A snapshot was installed, and the log was not reset before the crash.
        restored.applied.membership.validate()?;
        restored.start = restored.applied.clone();
        restored.entries.clear();
        restored.hard_state.commit = restored.hard_state.commit.min(applied.index);
    }
    let mut log = Log::new(restored.start.last);
    let mut configs = Configs::new(restored.start.last.index, restored.start.membership.clone());
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
    Ok(Loaded {
        hard_state: restored.hard_state,
        ballot: log.last().ballot,
        log,
        configs,
        commit,
        applied: applied.index,
        replace: reset.then_some(Write::Reset(restored.start)),
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

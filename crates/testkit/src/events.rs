//! Compares the order of writes in a server's watch history with the answers that clients got.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, EventType, WatchOptions};

use crate::{Action, Outcome, Record};

const NEXT_EVENT_WITHIN: Duration = Duration::from_secs(60);

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The main revision.
    pub revision: i64,
    /// The key.
    pub key: String,
    /// The value; `None` for a deletion.
    pub value: Option<String>,
}

/// All events below a prefix, in the server's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    /// The events, ordered by revision.
    pub events: Vec<StoredEvent>,
}

/// Reads all events below `prefix` from revision 1 up to and including `through`, a revision that
/// has an event.
///
/// # Errors
/// The watch is cancelled, or delivers nothing for `NEXT_EVENT_WITHIN` before it reaches `through`.
pub async fn read_events(client: &mut Client, prefix: &str, through: i64) -> Result<EventLog> {
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(1)
        .with_fragment();
    let mut stream = client.watch(prefix, Some(options)).await?;
    let mut log = EventLog::default();
    while log.events.last().is_none_or(|last| last.revision < through) {
        let answer = tokio::time::timeout(NEXT_EVENT_WITHIN, stream.message())
            .await
            .with_context(|| format!("no event for {NEXT_EVENT_WITHIN:?} before {through}"))??
            .context("the watch ended")?;
        ensure!(
            !answer.canceled(),
            "the watch was cancelled: {}",
            answer.cancel_reason()
        );
        for event in answer.events() {
            let kv = event.kv().context("an event has a key")?;
            let deleted = event.event_type() == EventType::Delete;
            log.events.push(StoredEvent {
                revision: kv.mod_revision(),
                key: kv.key_str()?.to_owned(),
                value: (!deleted)
                    .then(|| kv.value_str().map(str::to_owned))
                    .transpose()?,
            });
        }
    }
    Ok(log)
}

impl EventLog {
    /// Checks that revisions rise, and that the log and the clients' records agree. Every
    /// acknowledged write is at its acknowledged revision. Every event is a recorded write that was
    /// not refused, and no write occurs twice. Every read returned the newest value at its header's
    /// revision, which is not before any revision known when it was called.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self, records: &[Record]) -> Result<()> {
        self.check_order()?;
        self.check_writes(records)?;
        self.check_reads(records)?;
        check_real_time(records)
    }

    fn check_order(&self) -> Result<()> {
        for pair in self.events.windows(2) {
            ensure!(
                pair[0].revision < pair[1].revision,
                "revisions must rise: {:?} then {:?}",
                pair[0],
                pair[1]
            );
        }
        Ok(())
    }

    fn check_writes(&self, records: &[Record]) -> Result<()> {
        let by_revision: HashMap<i64, &StoredEvent> = self
            .events
            .iter()
            .map(|event| (event.revision, event))
            .collect();
        let mut allowed: HashSet<(&str, u64)> = HashSet::new();
        for record in records {
            let Some(value) = record.action.written() else {
                continue;
            };
            match record.outcome {
                Outcome::Refused => continue,
                Outcome::Unknown => {}
                Outcome::Done(observed) if !observed.wrote => continue,
                Outcome::Done(observed) => {
                    let stored = by_revision.get(&observed.revision).with_context(|| {
                        format!(
                            "an acknowledged write is lost: no event at its revision: {record:?}"
                        )
                    })?;
                    ensure!(
                        stored.key == record.key && stored.value == Some(value.to_string()),
                        "an acknowledged write is lost: {record:?}, but its revision has {stored:?}"
                    );
                }
            }
            allowed.insert((&record.key, value));
        }
        for event in &self.events {
            let Some(text) = &event.value else {
                bail!("no client deleted anything: {event:?}")
            };
            let value: u64 = text.parse()?;
            // Removed, so that a write that was applied twice is detected.
            ensure!(
                allowed.remove(&(&event.key, value)),
                "no client wrote this, or it was written only once: {event:?}"
            );
        }
        Ok(())
    }

    fn check_reads(&self, records: &[Record]) -> Result<()> {
        let mut by_key: HashMap<&str, BTreeMap<i64, &str>> = HashMap::new();
        for event in &self.events {
            let value = event.value.as_deref().unwrap_or_default();
            by_key
                .entry(&event.key)
                .or_default()
                .insert(event.revision, value);
        }
        for record in records {
            let Some(observed) = record.done() else {
                continue;
            };
            let reads =
                matches!(record.action, Action::Get | Action::Cas { .. }) && !observed.wrote;
            if !reads {
                continue;
            }
            let newest = by_key
                .get(record.key.as_str())
                .and_then(|history| history.range(..=observed.revision).next_back())
                .map(|(revision, value)| ((*value).to_owned(), *revision));
            let seen = observed
                .read
                .map(|(value, revision)| (value.to_string(), revision));
            ensure!(
                seen == newest,
                "a read saw {seen:?} instead of {newest:?}: {record:?}"
            );
        }
        Ok(())
    }
}

/// Checks that a call never returns a revision before one that was known when it was called.
fn check_real_time(records: &[Record]) -> Result<()> {
    let done = || {
        records
            .iter()
            .filter_map(|record| Some((record, record.done()?)))
    };
    let mut answers: Vec<(i64, i64)> = done()
        .map(|(record, observed)| (record.returned_ns, observed.revision))
        .collect();
    answers.sort_unstable();
    let mut calls: Vec<_> = done().collect();
    calls.sort_by_key(|(record, _)| record.called_ns);
    let mut known = 0;
    let mut next = answers.into_iter().peekable();
    for (record, observed) in calls {
        while let Some((_, revision)) = next.next_if(|(returned, _)| *returned < record.called_ns) {
            known = known.max(revision);
        }
        let fresh = if observed.wrote {
            observed.revision > known
        } else {
            observed.revision >= known
        };
        ensure!(
            fresh,
            "revision {known} was known before this call, which saw less: {record:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Observed;

    fn event(revision: i64, value: u64) -> StoredEvent {
        StoredEvent {
            revision,
            key: "k".to_owned(),
            value: Some(value.to_string()),
        }
    }

    fn log(events: &[(i64, u64)]) -> EventLog {
        EventLog {
            events: events
                .iter()
                .map(|(revision, value)| event(*revision, *value))
                .collect(),
        }
    }

    fn put(value: u64, time: (i64, i64), outcome: Outcome) -> Record {
        Record {
            client: 1,
            key: "k".to_owned(),
            action: Action::Put(value),
            called_ns: time.0,
            returned_ns: time.1,
            outcome,
        }
    }

    fn at(revision: i64) -> Outcome {
        Outcome::Done(Observed {
            wrote: true,
            read: None,
            revision,
        })
    }

    #[test]
    fn lost_invented_and_duplicated_writes_are_detected() {
        let records = [
            put(1, (0, 1), at(2)),
            put(2, (2, 3), Outcome::Unknown),
            put(3, (4, 5), Outcome::Refused),
        ];
        assert!(log(&[(2, 1)]).check(&records).is_ok());
        assert!(log(&[(2, 1), (3, 2)]).check(&records).is_ok());
        for wrong in [
            &[][..],
            &[(3, 1)],
            &[(2, 1), (3, 3)],
            &[(2, 1), (3, 2), (4, 2)],
            &[(2, 1), (3, 7)],
        ] {
            assert!(log(wrong).check(&records).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_read_behind_a_known_revision_is_detected() {
        let get = |revision, read| Record {
            action: Action::Get,
            outcome: Outcome::Done(Observed {
                wrote: false,
                read,
                revision,
            }),
            ..put(0, (10, 11), Outcome::Unknown)
        };
        let write = put(1, (0, 1), at(5));
        let log = log(&[(5, 1)]);
        assert!(log.check(&[write.clone(), get(5, Some((1, 5)))]).is_ok());
        assert!(log.check(&[write.clone(), get(4, None)]).is_err());
        assert!(log.check(&[write, get(5, None)]).is_err());
    }
}

//! Watch: which events arrive, and how they are grouped in responses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    DeleteOptions, EventType, PutOptions, Txn, TxnOp, WatchFilterType, WatchOptions, WatchResponse,
    WatchStream,
};

use super::{Case, shape};

/// The next message, which must arrive within 60 s.
pub(super) async fn next(stream: &mut WatchStream) -> Result<WatchResponse> {
    tokio::time::timeout(Duration::from_secs(60), stream.message())
        .await
        .context("no message from the watch in time")??
        .context("the watch ended")
}

/// A watch whose creation was confirmed. It starts at the present unless the options say otherwise.
pub(super) async fn created(
    case: &Case,
    key: String,
    options: WatchOptions,
) -> Result<WatchStream> {
    let mut stream = case.client.clone().watch(key, Some(options)).await?;
    let first = next(&mut stream).await?;
    ensure!(
        first.created() && !first.canceled() && first.events().is_empty(),
        "{first:?}"
    );
    Ok(stream)
}

/// The next `count` events, each as `PUT <name>@<revision>` or `DEL ...`, relative to the case's
/// start.
pub(super) async fn events(
    case: &Case,
    stream: &mut WatchStream,
    count: usize,
) -> Result<Vec<String>> {
    let mut told = Vec::new();
    while told.len() < count {
        told.extend(told_by(case, &next(stream).await?)?);
    }
    Ok(told)
}

fn told_by(case: &Case, response: &WatchResponse) -> Result<Vec<String>> {
    ensure!(!response.canceled(), "cancelled: {response:?}");
    response
        .events()
        .iter()
        .map(|event| {
            let kv = event.kv().context("a key")?;
            let name = kv
                .key_str()?
                .strip_prefix(case.prefix.as_str())
                .context("our key")?;
            let kind = if event.event_type() == EventType::Put {
                "PUT"
            } else {
                "DEL"
            };
            Ok(format!("{kind} {name}@{}", kv.mod_revision() - case.base))
        })
        .collect()
}

fn below() -> WatchOptions {
    WatchOptions::new().with_prefix()
}

pub(crate) async fn live_events(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let mut stream = created(&case, case.prefix.clone(), below()).await?;
    client.put(case.key("k"), "1", None).await?;
    let first = next(&mut stream).await?;
    assert_eq!(
        first.header().context("a header")?.revision(),
        case.base + 1
    );
    assert_eq!(
        (first.watch_id(), first.created(), first.events().len()),
        (0, false, 1)
    );
    let kv = first.events()[0].kv().context("a key")?;
    assert_eq!(shape(kv), (case.base + 1, case.base + 1, 1, 0, &b"1"[..]));
    assert!(first.events()[0].prev_kv().is_none());
    client.put(case.key("k"), "2", None).await?;
    client.delete(case.key("k"), None).await?;
    assert_eq!(events(&case, &mut stream, 2).await?, ["PUT k@2", "DEL k@3"]);
    // The header of a created watch has the store's revision.
    let mut other = client.watch(case.key("k"), None).await?;
    assert_eq!(
        next(&mut other)
            .await?
            .header()
            .context("a header")?
            .revision(),
        case.base + 3
    );
    Ok(())
}

pub(crate) async fn history(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "b", "a"]).await?;
    client.delete(case.key("a"), None).await?;
    let all = below().with_start_revision(case.base + 1);
    let mut stream = created(&case, case.prefix.clone(), all).await?;
    let told = events(&case, &mut stream, 4).await?;
    assert_eq!(told, ["PUT a@1", "PUT b@2", "PUT a@3", "DEL a@4"]);
    // From the middle of history into the present.
    let middle = below().with_start_revision(case.base + 3);
    let mut stream = created(&case, case.prefix.clone(), middle).await?;
    let first = next(&mut stream).await?;
    // During catch-up, the header has the store's revision, not the event's.
    assert_eq!(
        first.header().context("a header")?.revision(),
        case.base + 4
    );
    assert_eq!(told_by(&case, &first)?, ["PUT a@3", "DEL a@4"]);
    case.fill(&["c"]).await?;
    assert_eq!(events(&case, &mut stream, 1).await?, ["PUT c@5"]);
    // A tombstone has only its key and its revision.
    let deleted = first.events()[1].kv().context("a key")?;
    assert_eq!(shape(deleted), (0, case.base + 4, 0, 0, &b""[..]));
    Ok(())
}

pub(crate) async fn previous_values(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let start = below().with_prev_key().with_start_revision(case.base + 1);
    let mut live = created(&case, case.prefix.clone(), below().with_prev_key()).await?;
    client.put(case.key("k"), "1", None).await?;
    client.put(case.key("k"), "2", None).await?;
    client.delete(case.key("k"), None).await?;
    let mut late = created(&case, case.prefix.clone(), start).await?;
    for stream in [&mut live, &mut late] {
        let mut previous = Vec::new();
        while previous.len() < 3 {
            for event in next(stream).await?.events() {
                let value = event
                    .prev_kv()
                    .map(|kv| (kv.mod_revision(), kv.value().to_vec()));
                previous.push(value);
            }
        }
        let wanted = [
            None,
            Some((case.base + 1, b"1".to_vec())),
            Some((case.base + 2, b"2".to_vec())),
        ];
        assert_eq!(previous, wanted);
    }
    Ok(())
}

pub(crate) async fn filters(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let with = |filter| below().with_filters([filter]);
    let mut deletes = created(&case, case.prefix.clone(), with(WatchFilterType::NoPut)).await?;
    let mut puts = created(&case, case.prefix.clone(), with(WatchFilterType::NoDelete)).await?;
    case.fill(&["a", "b"]).await?;
    client.delete(case.key("a"), None).await?;
    case.fill(&["a"]).await?;
    client.delete(case.key("b"), None).await?;
    // Filtered events don't cause empty messages.
    let first = next(&mut deletes).await?;
    assert_eq!(told_by(&case, &first)?, ["DEL a@3"]);
    assert_eq!(events(&case, &mut deletes, 1).await?, ["DEL b@5"]);
    assert_eq!(
        events(&case, &mut puts, 3).await?,
        ["PUT a@1", "PUT b@2", "PUT a@4"]
    );
    let late = with(WatchFilterType::NoPut).with_start_revision(case.base + 1);
    let mut late = created(&case, case.prefix.clone(), late).await?;
    assert_eq!(events(&case, &mut late, 2).await?, ["DEL a@3", "DEL b@5"]);
    Ok(())
}

pub(crate) async fn ranges(case: Case) -> Result<()> {
    let one = WatchOptions::new();
    let mut key = created(&case, case.key("b"), one).await?;
    let range = WatchOptions::new().with_range(case.key("c"));
    let mut range = created(&case, case.key("a"), range).await?;
    let mut prefix = created(&case, case.key("b"), below()).await?;
    let mut from = created(&case, case.key("b"), WatchOptions::new().with_from_key()).await?;
    case.fill(&["a", "b", "b1", "c", "d"]).await?;
    assert_eq!(events(&case, &mut key, 1).await?, ["PUT b@2"]);
    assert_eq!(
        events(&case, &mut range, 3).await?,
        ["PUT a@1", "PUT b@2", "PUT b1@3"]
    );
    assert_eq!(
        events(&case, &mut prefix, 2).await?,
        ["PUT b@2", "PUT b1@3"]
    );
    assert_eq!(
        events(&case, &mut from, 4).await?,
        ["PUT b@2", "PUT b1@3", "PUT c@4", "PUT d@5"]
    );
    Ok(())
}

pub(crate) async fn one_response_a_revision(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let mut stream = created(&case, case.prefix.clone(), below()).await?;
    case.fill(&["x"]).await?;
    let txn = Txn::new().and_then([
        TxnOp::put(case.key("b"), "", None),
        TxnOp::delete(case.key("x"), None),
        TxnOp::put(case.key("a"), "", None),
    ]);
    client.txn(txn).await?;
    next(&mut stream).await?;
    // In the order of the operations.
    let whole = next(&mut stream).await?;
    assert_eq!(told_by(&case, &whole)?, ["PUT b@2", "DEL x@2", "PUT a@2"]);
    // The same for history.
    let late = below().with_start_revision(case.base + 2);
    let mut late = created(&case, case.prefix.clone(), late).await?;
    assert_eq!(
        told_by(&case, &next(&mut late).await?)?,
        ["PUT b@2", "DEL x@2", "PUT a@2"]
    );
    client
        .delete(
            case.prefix.clone(),
            Some(DeleteOptions::new().with_prefix()),
        )
        .await?;
    assert_eq!(
        told_by(&case, &next(&mut stream).await?)?,
        ["DEL a@3", "DEL b@3"]
    );
    Ok(())
}

pub(crate) async fn fragments(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    for name in ["a", "b", "c"] {
        client
            .put(case.key(name), vec![b'v'; 1024 * 1024], None)
            .await?;
    }
    let options = below().with_prev_key();
    let mut whole = created(&case, case.prefix.clone(), options.clone()).await?;
    let mut split = created(&case, case.prefix.clone(), options.with_fragment()).await?;
    // 3 MiB of previous values in one revision, over the threshold of 2 MiB.
    client
        .delete(
            case.prefix.clone(),
            Some(DeleteOptions::new().with_prefix()),
        )
        .await?;
    let all = ["DEL a@4", "DEL b@4", "DEL c@4"];
    assert_eq!(told_by(&case, &next(&mut whole).await?)?, all);
    let first = next(&mut split).await?;
    assert!(
        first.events().len() < 3,
        "{} events in the first part",
        first.events().len()
    );
    let mut told = told_by(&case, &first)?;
    told.extend(events(&case, &mut split, 3 - told.len()).await?);
    assert_eq!(told, all);
    Ok(())
}

pub(crate) async fn leases_end_in_one_revision(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let lease = client.lease_grant(100, None).await?.id();
    let mut stream = created(&case, case.prefix.clone(), below()).await?;
    for name in ["c", "a", "b"] {
        let options = PutOptions::new().with_lease(lease);
        client.put(case.key(name), "", Some(options)).await?;
    }
    events(&case, &mut stream, 3).await?;
    client.lease_revoke(lease).await?;
    let ended = next(&mut stream).await?;
    assert_eq!(told_by(&case, &ended)?, ["DEL a@4", "DEL b@4", "DEL c@4"]);
    Ok(())
}

pub(crate) async fn previous_values_below_compaction(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "b", "b", "c"]).await?;
    client.delete(case.key("a"), None).await?;
    case.fill(&["c"]).await?;
    for compacted in [3, 5] {
        let compacted = case.base + compacted;
        client.compact(compacted, None).await?;
        let start = below().with_prev_key().with_start_revision(compacted);
        let mut stream = created(&case, case.prefix.clone(), start).await?;
        let mut told = Vec::new();
        let count = case.base + 6 - compacted + 1;
        while told.len() < usize::try_from(count)? {
            for event in next(&mut stream).await?.events() {
                let kv = event.kv().context("a key")?;
                let previous = event.prev_kv().map(|kv| kv.mod_revision() - case.base);
                told.push((kv.mod_revision() - case.base, previous));
            }
        }
        // The state before the compacted revision can't be read any more.
        let all = [(3, None), (4, None), (5, Some(1)), (6, Some(4))];
        let mut wanted: Vec<(i64, Option<i64>)> = all
            .into_iter()
            .filter(|(revision, _)| case.base + revision >= compacted)
            .collect();
        wanted[0].1 = None;
        assert_eq!(told, wanted, "compacted at {compacted}");
    }
    Ok(())
}

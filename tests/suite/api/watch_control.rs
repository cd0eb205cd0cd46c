//! Watch: creation, ids, cancellation, progress, and refusals.

use anyhow::{Context, Result, ensure};
use etcd_client::{WatchOptions, WatchResponse};

use super::Case;
use super::watch::{created, events, next};

fn refusal(response: &WatchResponse) -> (bool, bool, i64, &str) {
    (
        response.created(),
        response.canceled(),
        response.watch_id(),
        response.cancel_reason(),
    )
}

pub(crate) async fn ids(case: Case) -> Result<()> {
    // Assigned ids count up from 0; an explicit id is kept.
    let mut stream = case.client.clone().watch(case.key("a"), None).await?;
    stream.watch(case.key("b"), None).await?;
    stream
        .watch(case.key("c"), Some(WatchOptions::new().with_watch_id(40)))
        .await?;
    stream.watch(case.key("d"), None).await?;
    let mut told = Vec::new();
    for _ in 0..4 {
        let created = next(&mut stream).await?;
        ensure!(created.created() && !created.canceled(), "{created:?}");
        told.push(created.watch_id());
    }
    assert_eq!(told, [0, 1, 40, 2]);
    case.fill(&["c"]).await?;
    assert_eq!(next(&mut stream).await?.watch_id(), 40);
    Ok(())
}

pub(crate) async fn duplicate_id(case: Case) -> Result<()> {
    let named = || WatchOptions::new().with_watch_id(40);
    let mut stream = created(&case, case.key("a"), named()).await?;
    stream.watch(case.key("b"), Some(named())).await?;
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(refusal(&next(&mut stream).await?), (true, true, -1, reason));
    // The first one stays open.
    case.fill(&["b", "a"]).await?;
    assert_eq!(events(&case, &mut stream, 1).await?, ["PUT a@2"]);
    Ok(())
}

pub(crate) async fn empty_range(case: Case) -> Result<()> {
    let mut stream = created(&case, case.key("a"), WatchOptions::new()).await?;
    let reason = "mvcc: watcher range is empty";
    for end in ["b", "a"] {
        let options = WatchOptions::new().with_range(case.key(end));
        stream.watch(case.key("b"), Some(options)).await?;
        assert_eq!(
            refusal(&next(&mut stream).await?),
            (true, true, -1, reason),
            "end {end}"
        );
    }
    Ok(())
}

pub(crate) async fn cancel(case: Case) -> Result<()> {
    let mut stream = created(&case, case.key("a"), WatchOptions::new()).await?;
    stream.watch(case.key("b"), None).await?;
    next(&mut stream).await?;
    stream.cancel(0).await?;
    let cancelled = next(&mut stream).await?;
    assert_eq!(refusal(&cancelled), (false, true, 0, ""));
    // An unknown id gets no answer. The next message is the other watch's event.
    stream.cancel(77).await?;
    stream.cancel(0).await?;
    case.fill(&["a", "b"]).await?;
    assert_eq!(events(&case, &mut stream, 1).await?, ["PUT b@2"]);
    Ok(())
}

pub(crate) async fn compacted_start(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "a", "a", "a"]).await?;
    client.compact(case.base + 3, None).await?;
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut stream = client.watch(case.key("a"), from(case.base + 2)).await?;
    let first = next(&mut stream).await?;
    assert_eq!(
        (first.created(), first.canceled(), first.compact_revision()),
        (true, false, 0)
    );
    let second = next(&mut stream).await?;
    assert_eq!(refusal(&second), (false, true, first.watch_id(), ""));
    assert_eq!(second.compact_revision(), case.base + 3);
    assert_eq!(second.header().context("a header")?.revision(), 0);
    // The compacted revision itself is a valid start.
    let mut stream = client.watch(case.key("a"), from(case.base + 3)).await?;
    next(&mut stream).await?;
    assert_eq!(events(&case, &mut stream, 2).await?, ["PUT a@3", "PUT a@4"]);
    Ok(())
}

/// It is refused in one message, and the stream stays open.
pub(crate) async fn negative_start(case: Case) -> Result<()> {
    let mut stream = created(&case, case.key("a"), WatchOptions::new()).await?;
    let reason = "etcdserver: mvcc: required revision has been compacted";
    for start in [-1, i64::MIN] {
        let options = WatchOptions::new().with_start_revision(start);
        stream.watch(case.key("a"), Some(options)).await?;
        let answer = next(&mut stream).await?;
        assert_eq!(refusal(&answer), (true, true, -1, reason), "from {start}");
        assert_eq!(answer.compact_revision(), 0);
        let header = answer.header().context("a header")?;
        assert_eq!(header.revision(), case.base);
    }
    // Before any other error in the request.
    let options = WatchOptions::new().with_start_revision(-1);
    let options = options.with_range(case.key("a"));
    stream.watch(case.key("b"), Some(options)).await?;
    assert_eq!(refusal(&next(&mut stream).await?), (true, true, -1, reason));
    case.fill(&["a"]).await?;
    assert_eq!(events(&case, &mut stream, 1).await?, ["PUT a@1"]);
    Ok(())
}

pub(crate) async fn progress(case: Case) -> Result<()> {
    let mut stream = created(&case, case.key("a"), WatchOptions::new()).await?;
    case.fill(&["other", "a", "other"]).await?;
    assert_eq!(events(&case, &mut stream, 1).await?, ["PUT a@2"]);
    // A watcher that has just received its event is synced. The answer comes after the event.
    stream.request_progress().await?;
    let answer = next(&mut stream).await?;
    assert_eq!(
        (answer.watch_id(), answer.events().len(), answer.created()),
        (-1, 0, false)
    );
    assert_eq!(
        answer.header().context("a header")?.revision(),
        case.base + 3
    );
    // It did not skip any event.
    case.fill(&["a"]).await?;
    assert_eq!(events(&case, &mut stream, 1).await?, ["PUT a@4"]);
    Ok(())
}

pub(crate) async fn future_start(case: Case) -> Result<()> {
    let options = WatchOptions::new().with_start_revision(case.base + 3);
    let mut stream = created(&case, case.key("a"), options).await?;
    case.fill(&["a", "a", "a", "a"]).await?;
    assert_eq!(events(&case, &mut stream, 2).await?, ["PUT a@3", "PUT a@4"]);
    Ok(())
}

pub(crate) async fn many_on_one_stream(case: Case) -> Result<()> {
    const WATCHES: usize = 100;
    let mut stream = created(&case, case.key("k"), WatchOptions::new()).await?;
    let start = WatchOptions::new().with_start_revision(case.base + 1);
    for number in 1..WATCHES {
        // Half of them start in the past, half in the present.
        let options = if number % 2 == 0 {
            start.clone()
        } else {
            WatchOptions::new()
        };
        stream.watch(case.key("k"), Some(options)).await?;
    }
    for _ in 1..WATCHES {
        ensure!(
            next(&mut stream).await?.created(),
            "only confirmations before the first put"
        );
    }
    case.fill(&["k", "k"]).await?;
    let mut seen: Vec<Vec<i64>> = vec![Vec::new(); WATCHES];
    while seen.iter().any(|revisions| revisions.len() < 2) {
        let response = next(&mut stream).await?;
        for event in response.events() {
            let revision = event.kv().context("a key")?.mod_revision() - case.base;
            seen[usize::try_from(response.watch_id())?].push(revision);
        }
    }
    ensure!(
        seen.iter().all(|revisions| revisions == &[1, 2]),
        "{seen:?}"
    );
    Ok(())
}

//! Range with all its options, and compaction.

use anyhow::{Context, Result};
use etcd_client::{CompactionOptions, GetOptions, GetResponse, PutOptions, SortOrder, SortTarget};
use synod_testkit::{Refused, refused};

use super::{Case, names, shape};

/// The result of [`shape`] with a copy of the value.
type OwnedShape = (i64, i64, i64, i64, Vec<u8>);

fn below(case: &Case) -> GetOptions {
    GetOptions::new().with_range(format!("{}\u{7f}", case.prefix))
}

async fn get(case: &Case, options: GetOptions) -> Result<GetResponse> {
    Ok(case
        .client
        .clone()
        .get(case.prefix.clone(), Some(options))
        .await?)
}

pub(crate) async fn revisions(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (key, base) = (case.key("k"), case.base);
    client.put(key.clone(), "1", None).await?;
    client.put(key.clone(), "2", None).await?;
    client.delete(key.clone(), None).await?;
    client.put(key.clone(), "3", None).await?;
    let mut at = async |revision| -> Result<Option<OwnedShape>> {
        let options = GetOptions::new().with_revision(revision);
        let read = client.get(key.clone(), Some(options)).await?;
        // The header has the store's revision, not the requested one.
        assert_eq!(read.header().context("a header")?.revision(), base + 4);
        Ok(read.kvs().first().map(|kv| {
            let (create, modified, version, lease, value) = shape(kv);
            (create, modified, version, lease, value.to_vec())
        }))
    };
    assert_eq!(at(base).await.unwrap_or(None), None);
    assert_eq!(
        at(base + 1).await?,
        Some((base + 1, base + 1, 1, 0, b"1".to_vec()))
    );
    assert_eq!(
        at(base + 2).await?,
        Some((base + 1, base + 2, 2, 0, b"2".to_vec()))
    );
    assert_eq!(at(base + 3).await?, None);
    assert_eq!(
        at(base + 4).await?,
        Some((base + 4, base + 4, 1, 0, b"3".to_vec()))
    );
    // Zero and negative revisions mean the current one.
    assert_eq!(at(0).await?, at(base + 4).await?);
    assert_eq!(at(-7).await?, at(base + 4).await?);
    let future = GetOptions::new().with_revision(base + 5);
    assert_eq!(
        refused(client.get(key, Some(future)).await)?,
        Refused::with(
            "OutOfRange",
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    Ok(())
}

pub(crate) async fn limits_and_counts(case: Case) -> Result<()> {
    case.fill(&["a", "b", "c", "d", "e"]).await?;
    let page = get(&case, below(&case).with_limit(2)).await?;
    assert_eq!(
        (names(page.kvs(), &case)?, page.count(), page.more()),
        (vec!["a", "b"], 5, true)
    );
    let exact = get(&case, below(&case).with_limit(5)).await?;
    assert_eq!(
        (exact.kvs().len(), exact.count(), exact.more()),
        (5, 5, false)
    );
    let wide = get(&case, below(&case).with_limit(9)).await?;
    assert_eq!((wide.kvs().len(), wide.count(), wide.more()), (5, 5, false));

    let count = get(&case, below(&case).with_count_only()).await?;
    assert_eq!(
        (count.kvs().len(), count.count(), count.more()),
        (0, 5, false)
    );
    let count = get(&case, below(&case).with_count_only().with_limit(2)).await?;
    assert_eq!(
        (count.kvs().len(), count.count(), count.more()),
        (0, 5, false)
    );

    // Kubernetes reads pages like this: the next one starts right after the last key, at the same
    // revision.
    let revision = page.header().context("a header")?.revision();
    case.fill(&["bb"]).await?;
    let next = GetOptions::new()
        .with_range(format!("{}\u{7f}", case.prefix))
        .with_revision(revision)
        .with_limit(2);
    let next = case
        .client
        .clone()
        .get(format!("{}\0", case.key("b")), Some(next))
        .await?;
    assert_eq!(
        (names(next.kvs(), &case)?, next.count(), next.more()),
        (vec!["c", "d"], 3, true)
    );
    Ok(())
}

pub(crate) async fn sorting(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    // Chosen so that every target gives a different order.
    for (name, value) in [("c", "1"), ("a", "3"), ("b", "2"), ("c", "4"), ("a", "0")] {
        client.put(case.key(name), value, None).await?;
    }
    client.put(case.key("a"), "0", None).await?;
    let orders = [
        (SortTarget::Key, ["a", "b", "c"]),
        (SortTarget::Version, ["b", "c", "a"]),
        (SortTarget::Create, ["c", "a", "b"]),
        (SortTarget::Mod, ["b", "c", "a"]),
        (SortTarget::Value, ["a", "b", "c"]),
    ];
    for (target, ascending) in orders {
        let sorted = get(&case, below(&case).with_sort(target, SortOrder::Ascend)).await?;
        assert_eq!(
            names(sorted.kvs(), &case)?,
            ascending,
            "{target:?} ascending"
        );
        let mut descending = ascending;
        descending.reverse();
        let sorted = get(&case, below(&case).with_sort(target, SortOrder::Descend)).await?;
        assert_eq!(
            names(sorted.kvs(), &case)?,
            descending,
            "{target:?} descending"
        );
        // Without an order, a target other than the key is sorted ascending.
        let sorted = get(&case, below(&case).with_sort(target, SortOrder::None)).await?;
        assert_eq!(
            names(sorted.kvs(), &case)?,
            ascending,
            "{target:?} without order"
        );
        let first = below(&case)
            .with_sort(target, SortOrder::Descend)
            .with_limit(1);
        let first = get(&case, first).await?;
        assert_eq!(
            names(first.kvs(), &case)?,
            descending[..1],
            "{target:?} limited"
        );
        assert_eq!(
            (first.count(), first.more()),
            (3, true),
            "{target:?} limited"
        );
    }
    Ok(())
}

pub(crate) async fn revision_filters(case: Case) -> Result<()> {
    case.fill(&["a", "b", "c", "d", "a"]).await?;
    let base = case.base;
    let filters = [
        (
            below(&case).with_min_mod_revision(base + 3),
            vec!["a", "c", "d"],
        ),
        (below(&case).with_max_mod_revision(base + 3), vec!["b", "c"]),
        (
            below(&case).with_min_create_revision(base + 3),
            vec!["c", "d"],
        ),
        (below(&case).with_max_create_revision(base + 1), vec!["a"]),
        (
            below(&case)
                .with_min_mod_revision(base + 3)
                .with_max_mod_revision(base + 3),
            vec!["c"],
        ),
    ];
    for (options, wanted) in filters {
        let read = get(&case, options.clone()).await?;
        assert_eq!(names(read.kvs(), &case)?, wanted, "{options:?}");
        // Filters don't affect the count.
        assert_eq!((read.count(), read.more()), (4, false), "{options:?}");
        let one = get(&case, options.clone().with_limit(1)).await?;
        assert_eq!(names(one.kvs(), &case)?, wanted[..1], "limited {options:?}");
        assert_eq!(
            (one.count(), one.more()),
            (4, wanted.len() > 1),
            "limited {options:?}"
        );
    }
    Ok(())
}

pub(crate) async fn range_ends(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    case.fill(&["a", "b"]).await?;
    // A zero byte as the end means everything from the key on.
    let all = client
        .get(case.key("a"), Some(GetOptions::new().with_from_key()))
        .await?;
    assert!(names(&all.kvs()[..2], &case)? == ["a", "b"], "{all:?}");
    let everything = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await?;
    assert!(everything.count() >= 2);
    for end in ["a", "b"] {
        let empty = GetOptions::new().with_range(case.key(end));
        let empty = client.get(case.key("b"), Some(empty)).await?;
        assert_eq!((empty.kvs().len(), empty.count()), (0, 0), "end {end}");
    }
    // Keys are compared as unsigned bytes.
    let high = [case.prefix.as_bytes(), &[0xff, 0xfe]].concat();
    client.put(high.clone(), "v", None).await?;
    let read = client
        .get(case.prefix.clone(), Some(GetOptions::new().with_prefix()))
        .await?;
    assert_eq!(read.kvs().last().context("a key")?.key(), high);
    Ok(())
}

pub(crate) async fn keys_only(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let lease = client.lease_grant(100, None).await?.id();
    let options = PutOptions::new().with_lease(lease);
    client.put(case.key("a"), "2", Some(options)).await?;
    case.fill(&["b"]).await?;
    let read = get(&case, below(&case).with_keys_only()).await?;
    let base = case.base;
    assert_eq!(shape(&read.kvs()[0]), (base + 1, base + 1, 1, 0, &b""[..]));
    assert_eq!(names(read.kvs(), &case)?, ["a", "b"]);
    // Sorting by value reads the values, and so the lease too.
    let sorted = below(&case)
        .with_keys_only()
        .with_sort(SortTarget::Value, SortOrder::Descend);
    let read = get(&case, sorted).await?;
    assert_eq!(names(read.kvs(), &case)?, ["b", "a"]);
    assert_eq!(
        shape(&read.kvs()[1]),
        (base + 1, base + 1, 1, lease, &b""[..])
    );
    client.lease_revoke(lease).await?;
    Ok(())
}

pub(crate) async fn compaction(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let (key, base) = (case.key("k"), case.base);
    for value in ["1", "2", "3"] {
        client.put(key.clone(), value, None).await?;
    }
    client.delete(case.key("k"), None).await?;
    case.fill(&["other"]).await?;
    let physical = || Some(CompactionOptions::new().with_physical());
    let done = client.compact(base + 2, physical()).await?;
    assert_eq!(done.header().context("a header")?.revision(), base + 5);
    let compacted = Refused::with(
        "OutOfRange",
        "etcdserver: mvcc: required revision has been compacted",
    );
    let future = Refused::with(
        "OutOfRange",
        "etcdserver: mvcc: required revision is a future revision",
    );
    assert_eq!(refused(client.compact(base + 2, None).await)?, compacted);
    assert_eq!(refused(client.compact(base + 1, None).await)?, compacted);
    assert_eq!(refused(client.compact(base + 6, None).await)?, future);

    let mut at = async |revision| {
        client
            .get(key.clone(), Some(GetOptions::new().with_revision(revision)))
            .await
    };
    assert_eq!(refused(at(base + 1).await)?, compacted);
    // The compacted revision itself stays readable.
    assert_eq!(at(base + 2).await?.kvs()[0].value(), b"2");
    assert_eq!(at(base + 3).await?.kvs()[0].value(), b"3");
    assert_eq!(at(base + 4).await?.kvs().len(), 0);
    // Up to the current revision: the deleted key is gone, the live one stays.
    client.compact(base + 5, physical()).await?;
    assert_eq!(client.get(case.key("other"), None).await?.kvs().len(), 1);
    assert_eq!(client.get(case.key("k"), None).await?.kvs().len(), 0);
    Ok(())
}

pub(crate) async fn serializable_reads(case: Case) -> Result<()> {
    case.fill(&["a"]).await?;
    let read = get(&case, below(&case)).await?;
    let local = get(&case, below(&case).with_serializable()).await?;
    assert_eq!(names(local.kvs(), &case)?, names(read.kvs(), &case)?);
    let revision = local.header().context("a header")?.revision();
    let future = below(&case).with_serializable().with_revision(revision + 1);
    assert_eq!(
        refused(
            case.client
                .clone()
                .get(case.prefix.clone(), Some(future))
                .await
        )?,
        Refused::with(
            "OutOfRange",
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    Ok(())
}

pub(crate) async fn streams(case: Case) -> Result<()> {
    let mut kv = case.client.kv_client();
    let value = vec![b'v'; 100 * 1024];
    let mut client = case.client.clone();
    for number in 0..30 {
        client
            .put(case.key(&format!("{number:02}")), value.clone(), None)
            .await?;
    }
    let mut stream = kv
        .get_stream(case.prefix.clone(), Some(below(&case)))
        .await?;
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk);
    }
    let total: usize = chunks.iter().map(|chunk| chunk.kvs().len()).sum();
    assert_eq!(total, 30);
    let (last, before) = chunks.split_last().context("a chunk")?;
    assert!(!before.is_empty(), "3 MiB come in more than one chunk");
    assert_eq!((last.count(), last.more()), (30, false));
    assert_eq!(
        last.header().context("a header")?.revision(),
        case.base + 30
    );
    for chunk in before {
        assert!(chunk.header().is_none() && chunk.count() == 0 && !chunk.more());
    }
    for (options, why) in [
        (
            below(&case).with_sort(SortTarget::Mod, SortOrder::Descend),
            "custom sort orders",
        ),
        (below(&case).with_min_mod_revision(2), "revision filters"),
    ] {
        let refusal = match kv.get_stream(case.prefix.clone(), Some(options)).await {
            Ok(mut stream) => refused(stream.message().await)?,
            Err(error) => Refused::of(&error).context("a refusal")?,
        };
        let text = format!("RangeStream does not support {why}");
        assert_eq!(refusal, Refused::with("Unimplemented", &text));
    }
    let limited = below(&case).with_limit(3);
    let mut stream = kv.get_stream(case.prefix.clone(), Some(limited)).await?;
    let (mut keys, mut more, mut count) = (0, false, 0);
    while let Some(chunk) = stream.message().await? {
        keys += chunk.kvs().len();
        (more, count) = (chunk.more(), chunk.count());
    }
    assert_eq!((keys, more, count), (3, true, 30));
    client
        .delete(
            case.prefix.clone(),
            Some(etcd_client::DeleteOptions::new().with_prefix()),
        )
        .await?;
    Ok(())
}

/// The result of a stream: the keys in order, and the last header's revision, count and more.
async fn streamed(case: &Case, options: GetOptions) -> Result<(Vec<String>, i64, i64, bool)> {
    let mut kv = case.client.kv_client();
    let mut stream = kv.get_stream(case.prefix.clone(), Some(options)).await?;
    let (mut keys, mut last) = (Vec::new(), (0, 0, false));
    while let Some(chunk) = stream.message().await? {
        keys.extend(names(chunk.kvs(), case)?.into_iter().map(str::to_owned));
        if let Some(header) = chunk.header() {
            last = (header.revision(), chunk.count(), chunk.more());
        }
    }
    Ok((keys, last.0, last.1, last.2))
}

pub(crate) async fn streams_of_the_past(case: Case) -> Result<()> {
    case.fill(&["a", "b", "c"]).await?;
    let base = case.base;
    for revision in [base + 1, base + 2, base + 3, 0, -1] {
        let options = below(&case).with_revision(revision);
        let read = get(&case, options.clone()).await?;
        let (keys, header, count, more) = streamed(&case, options).await?;
        assert_eq!(keys, names(read.kvs(), &case)?, "at {revision}");
        assert_eq!((count, more), (read.count(), false), "at {revision}");
        // The store's revision when the stream began, as in Range.
        assert_eq!(header, base + 3, "at {revision}");
    }
    let counted = below(&case).with_revision(base + 1).with_count_only();
    let expected = (Vec::new(), base + 3, 1, false);
    assert_eq!(streamed(&case, counted).await?, expected);
    Ok(())
}

pub(crate) async fn streams_by_target(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    for (name, value) in [("c", "1"), ("a", "3"), ("b", "2"), ("c", "4"), ("a", "0")] {
        client.put(case.key(name), value, None).await?;
    }
    client.put(case.key("a"), "0", None).await?;
    for target in [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ] {
        for base in [
            below(&case),
            below(&case).with_limit(2),
            below(&case).with_limit(3),
            below(&case).with_keys_only(),
            below(&case).with_count_only(),
            below(&case).with_revision(case.base + 4),
        ] {
            let options = base.with_sort(target, SortOrder::None);
            let read = get(&case, options.clone()).await?;
            let wanted: Vec<String> = names(read.kvs(), &case)?
                .into_iter()
                .map(str::to_owned)
                .collect();
            let told = streamed(&case, options.clone()).await?;
            let mut expected = (wanted, case.base + 6, read.count(), read.more());
            if case.server.is_etcd() && read.more() {
                // It counts the keys after the last one that it sent.
                expected.2 = told.2;
            }
            assert_eq!(told, expected, "{options:?}");
        }
    }
    // Stock etcd sorts each chunk separately and continues after its last key.
    if !case.server.is_etcd() {
        let numbers: Vec<String> = (0..40).map(|number| format!("n{number:02}")).collect();
        for name in numbers.iter().rev() {
            client
                .put(case.key(name), vec![b'v'; 100_000], None)
                .await?;
        }
        let newest = below(&case).with_sort(SortTarget::Mod, SortOrder::None);
        let (keys, ..) = streamed(&case, newest).await?;
        let wanted = ["b", "c", "a"].into_iter().map(str::to_owned);
        let wanted: Vec<String> = wanted.chain(numbers.into_iter().rev()).collect();
        assert_eq!(keys, wanted);
    }
    let all = etcd_client::DeleteOptions::new().with_prefix();
    client.delete(case.prefix.clone(), Some(all)).await?;
    Ok(())
}

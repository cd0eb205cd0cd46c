//! New clusters that begin with a backup of another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, PutOptions, WatchOptions};
use synod_consensus::{Algorithm, Node};

use crate::support::{Cluster, SOON, again, client, config, configs, eventually, refused, status};

/// Does what `etcdctl snapshot save` does.
async fn save(client: &Client, to: &Path) {
    let mut stream = client.maintenance_client().snapshot().await.unwrap();
    let mut file = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        file.extend_from_slice(response.blob());
    }
    fs::write(to, file).unwrap();
}

/// Writes keys with a history. One of them has a lease, which is returned.
async fn fill(client: &Client) -> i64 {
    let mut kv = client.kv_client();
    for number in 0..50 {
        let key = format!("k{number:02}");
        kv.put(key, format!("v{number}"), None).await.unwrap();
    }
    // More than a restore reads at a time.
    kv.put("large", vec![7; 1_400_000], None).await.unwrap();
    kv.put("large2", vec![8; 1_400_000], None).await.unwrap();
    kv.put("k01", "again", None).await.unwrap();
    kv.delete("k02", None).await.unwrap();
    let lease = client.lease_client().grant(600, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(lease);
    kv.put("mine", "leased", Some(options)).await.unwrap();
    lease
}

/// All keys with their revisions and versions, and the store's revision.
async fn content(client: &Client) -> (Vec<String>, i64) {
    let all = GetOptions::new().with_all_keys();
    let got = client.kv_client().get("", Some(all)).await.unwrap();
    let show = |kv: &etcd_client::KeyValue| {
        format!(
            "{} created {} modified {} version {} lease {} {:?}",
            kv.key_str().unwrap(),
            kv.create_revision(),
            kv.mod_revision(),
            kv.version(),
            kv.lease(),
            kv.value(),
        )
    };
    let revision = got.header().unwrap().revision();
    (got.kvs().iter().map(show).collect(), revision)
}

async fn change_leader(cluster: &Cluster) {
    let before = cluster.leader().await;
    let next = (before + 1) % cluster.nodes.len();
    let target = cluster.client(next).await.status().await.unwrap();
    let target = target.header().unwrap().member_id();
    let mut maintenance = cluster.client(before).await.maintenance_client();
    maintenance.move_leader(target).await.unwrap();
    eventually("the next leader", || async {
        cluster.nodes[next].is_leader().then_some(())
    })
    .await;
}

async fn backup_of(algorithm: Algorithm, dir: &Path) -> (PathBuf, Vec<String>, i64, i64) {
    let old = Cluster::of(algorithm, 3).await;
    let client = old.client(0).await;
    let lease = fill(&client).await;
    // Its ballots become higher than those of a new cluster.
    for _ in 0..3 {
        change_leader(&old).await;
    }
    let file = dir.join(format!("{algorithm}.db"));
    save(&client, &file).await;
    let (keys, revision) = content(&client).await;
    old.stop().await;
    (file, keys, revision, lease)
}

async fn goes_on_with_another_engine(from: Algorithm) {
    let to = match from {
        Algorithm::Raft => Algorithm::MultiPaxos,
        Algorithm::MultiPaxos => Algorithm::Raft,
    };
    let dir = tempfile::tempdir().unwrap();
    let (file, keys, revision, lease) = backup_of(from, dir.path()).await;
    let new = Cluster::start_with(3, |config| {
        config.algorithm = Some(to);
        config.restore_snapshot = Some(file.clone());
    })
    .await;
    let client = new.client(0).await;
    assert_eq!(content(&client).await, (keys, revision));

    // The history is there too: old revisions can be read and watched.
    let past = GetOptions::new().with_revision(revision - 3);
    let past = client.kv_client().get("k02", Some(past)).await.unwrap();
    assert_eq!(past.count(), 1, "it was deleted later");
    let options = WatchOptions::new().with_start_revision(revision - 1);
    let mut events = client
        .watch_client()
        .watch("k02", Some(options))
        .await
        .unwrap();
    let deleted = tokio::time::timeout(SOON, async {
        loop {
            // The first response says that the watch was created.
            let answer = events.message().await.unwrap().unwrap();
            if let Some(event) = answer.events().first() {
                return event.event_type();
            }
        }
    });
    assert_eq!(deleted.await.unwrap(), EventType::Delete);

    // All members go on writing from there, and leases work.
    let put = client.kv_client().put("new", "1", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), revision + 1);
    let left = client.lease_client().time_to_live(lease, None).await;
    let left = left.unwrap().ttl();
    assert!((1..=600).contains(&left), "{left}");
    client.lease_client().revoke(lease).await.unwrap();
    assert_eq!(
        client.kv_client().get("mine", None).await.unwrap().count(),
        0
    );
    // The leases' time goes on. Who kept it in the old cluster does not matter.
    let brief = client.lease_client().grant(2, None).await.unwrap().id();
    let options = PutOptions::new().with_lease(brief);
    client
        .kv_client()
        .put("brief", "1", Some(options))
        .await
        .unwrap();
    eventually("the end of a lease", || async {
        let got = client.kv_client().get("brief", None).await.ok()?;
        (got.count() == 0).then_some(())
    })
    .await;
    let mut hashes = Vec::new();
    for node in 0..3 {
        let client = new.client(node).await;
        client.kv_client().get("new", None).await.unwrap();
        let hash = client.maintenance_client().hash_kv(revision + 1).await;
        hashes.push(hash.unwrap().hash());
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let members = client.cluster_client().member_list().await.unwrap();
    assert_eq!(members.members().len(), 3, "none of the old ones");
    new.stop().await;
}

on_both!(goes_on_with_another_engine);

/// A snapshot is refused if there is data already, so that nobody takes it for restored.
#[tokio::test]
async fn a_restore_does_not_replace_data() {
    let dir = tempfile::tempdir().unwrap();
    let first = config("n1", dir.path());
    let (mut restores, mut missing) = (again(&first), again(&first));
    let node = Node::start(first).await.unwrap();
    node.ready(SOON).await.unwrap();
    let file = dir.path().join("own.db");
    save(&client(&node).await, &file).await;
    node.shutdown().await;
    restores.restore_snapshot = Some(file);
    assert!(refused(restores).await.contains("already has data"));
    missing.restore_snapshot = Some(dir.path().join("nowhere"));
    assert!(refused(missing).await.contains("nowhere"));
}

#[tokio::test]
async fn later_starts_accept_the_flag_and_do_not_restore_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ..) = backup_of(Algorithm::Raft, dir.path()).await;
    let mut first = config("n1", dir.path());
    first.restore_snapshot = Some(file.clone());
    let mut same = again(&first);
    same.restore_snapshot = Some(file.clone());
    same.initial_cluster_given = true;
    let mut gone = again(&first);
    gone.restore_snapshot = Some(dir.path().join("removed since"));
    let (mut without, mut other) = (again(&first), again(&first));
    without.initial_cluster_given = true;

    let node = Node::start(first).await.unwrap();
    node.ready(SOON).await.unwrap();
    client(&node).await.put("k", "later", None).await.unwrap();
    let later = dir.path().join("later.db");
    save(&client(&node).await, &later).await;
    node.shutdown().await;

    for config in [same, gone, without] {
        let node = Node::start(config).await.unwrap();
        node.ready(SOON).await.unwrap();
        let got = client(&node).await.get("k", None).await.unwrap();
        assert_eq!(got.count(), 1, "what was written since is kept");
        node.shutdown().await;
    }
    other.restore_snapshot = Some(later);
    let text = refused(other).await;
    assert!(text.contains("already has data"), "{text}");
    assert!(text.contains("--restore-snapshot"), "{text}");
}

/// The cluster's id depends on the backup, so members that began with another one are refused.
#[tokio::test]
async fn members_of_different_backups_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let (file, keys, ..) = backup_of(Algorithm::Raft, dir.path()).await;
    let mut configs = configs(3, dir.path());
    for config in configs.iter_mut().take(2) {
        config.restore_snapshot = Some(file.clone());
    }
    let starts = configs.into_iter().map(Node::start);
    let nodes = futures::future::try_join_all(starts).await.unwrap();
    for node in &nodes[..2] {
        node.ready(SOON).await.unwrap();
    }
    assert_eq!(content(&client(&nodes[0]).await).await.0, keys);
    let ids = [&nodes[0], &nodes[1], &nodes[2]].map(async |node| {
        let client = client(node).await;
        eventually("an answer without a quorum", || async {
            let serializable = GetOptions::new().with_serializable();
            let got = client.kv_client().get("k", Some(serializable)).await.ok()?;
            Some(got.header()?.cluster_id())
        })
        .await
    });
    let ids = futures::future::join_all(ids).await;
    assert!(ids[0] == ids[1] && ids[0] != ids[2], "{ids:?}");
    let alone = nodes[2].ready(Duration::from_secs(2)).await;
    assert!(alone.is_err(), "it is ready without a cluster");
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_backup_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, keys, ..) = backup_of(Algorithm::Raft, dir.path()).await;
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[100_000] ^= 1;
    let mut bbolt = vec![0; 4096];
    bbolt[16..20].copy_from_slice(&0xed0c_daed_u32.to_le_bytes());
    let cases: [(&str, &[u8], &str); 7] = [
        ("newer", b"SYNOD SNAPSHOT 2\n", "newer release"),
        ("shorter", &good[..good.len() - 512], "SHA-256"),
        ("cut", &good[..good.len() - 100], "not a whole file"),
        ("flipped", &flipped, "SHA-256"),
        ("bbolt", &bbolt, "make-mirror"),
        ("text", b"hello", "not a snapshot"),
        ("empty", b"", "not a snapshot"),
    ];
    let base = config("n1", dir.path());
    let data = base.data_dir.clone();
    for (name, content, wanted) in cases {
        let bad = dir.path().join(name);
        fs::write(&bad, content).unwrap();
        let mut config = config("n1", dir.path());
        config.restore_snapshot = Some(bad);
        let text = refused(config).await;
        assert!(text.contains(wanted), "{name}: {text}");
        assert!(!data.join("meta.json").exists(), "{name}");
    }
    let mut missing = config("n1", dir.path());
    missing.restore_snapshot = Some(dir.path().join("nowhere"));
    assert!(refused(missing).await.contains("nowhere"));
    let mut joins = config("n1", dir.path());
    joins.restore_snapshot = Some(file.clone());
    joins.initial_cluster_state = synod_consensus::ClusterState::Existing;
    assert!(refused(joins).await.contains("makes a new cluster"));

    // These attempts leave nothing that would stop the next one.
    let mut right = config("n1", dir.path());
    right.restore_snapshot = Some(file);
    let node = Node::start(right).await.unwrap();
    node.ready(SOON).await.unwrap();
    assert_eq!(content(&client(&node).await).await.0, keys);
    node.shutdown().await;
}

/// A backup of a compacted store restores as compacted.
#[tokio::test]
async fn a_compacted_history_stays_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let old = Cluster::start(1).await;
    let source = old.client(0).await;
    fill(&source).await;
    let revision = content(&source).await.1;
    source
        .kv_client()
        .compact(revision - 1, None)
        .await
        .unwrap();
    let file = dir.path().join("compacted.db");
    save(&source, &file).await;
    old.stop().await;
    let new = Cluster::start_with(1, |config| config.restore_snapshot = Some(file.clone())).await;
    let past = GetOptions::new().with_revision(revision - 2);
    let answer = new.client(0).await.kv_client().get("k00", Some(past)).await;
    let (code, text) = status(answer);
    assert_eq!(code, tonic::Code::OutOfRange, "{text}");
    new.stop().await;
}

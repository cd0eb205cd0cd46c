//! Ids of clusters and members. All initial members derive the same ids from the same flags.

use sha2::{Digest as _, Sha256};
use synod_service::BackupId;
use synod_types::{ClusterId, NodeId};

use crate::config::InitialCluster;

/// The id of an initial member, from its peer URLs and the cluster's token.
pub(crate) fn initial_member_id(peer_urls: &[String], token: &str) -> NodeId {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(b"synod member\0");
    field(&mut hash, token.as_bytes());
    for url in sorted {
        field(&mut hash, url.as_bytes());
    }
    NodeId::new(nonzero(hash))
}

/// The id of a member that is added to a running cluster. With another `nonce` a member that is
/// added again gets another id.
pub(crate) fn added_member_id(peer_urls: &[String], cluster: ClusterId, nonce: u64) -> NodeId {
    let mut hash = Sha256::new();
    hash.update(b"synod added member\0");
    field(&mut hash, &cluster.get().to_be_bytes());
    field(&mut hash, &nonce.to_be_bytes());
    for url in peer_urls {
        field(&mut hash, url.as_bytes());
    }
    NodeId::new(nonzero(hash))
}

/// The id of a new cluster with these members, which may begin with a backup.
pub(crate) fn cluster_id(
    cluster: &InitialCluster,
    token: &str,
    restored: Option<BackupId>,
) -> ClusterId {
    let mut members: Vec<u64> = cluster
        .values()
        .map(|urls| initial_member_id(urls, token).get())
        .collect();
    members.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(b"synod cluster\0");
    for member in members {
        field(&mut hash, &member.to_be_bytes());
    }
    if let Some(backup) = restored {
        hash.update(b"restored\0");
        field(&mut hash, backup.as_bytes());
    }
    ClusterId::new(nonzero(hash))
}

/// Adds the length first, so that different lists of fields never hash alike.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Zero means "none" to etcd's clients.
fn nonzero(hash: Sha256) -> u64 {
    let digest: [u8; 32] = hash.finalize().into();
    let (head, _) = digest.split_at(8);
    let mut eight = [0; 8];
    eight.copy_from_slice(head);
    u64::from_be_bytes(eight).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ids_depend_on_urls_and_token_but_not_on_order_or_names() {
        let a = urls(&["http://a:1", "http://a:2"]);
        let reversed = urls(&["http://a:2", "http://a:1"]);
        assert_eq!(
            initial_member_id(&a, "t"),
            initial_member_id(&reversed, "t")
        );
        assert_ne!(initial_member_id(&a, "t"), initial_member_id(&a, "u"));
        let b = urls(&["http://b:1"]);
        let named = InitialCluster::from([("x".into(), a.clone()), ("y".into(), b.clone())]);
        let renamed = InitialCluster::from([("z".into(), a.clone()), ("a".into(), b)]);
        let cluster = cluster_id(&named, "t", None);
        assert_eq!(cluster, cluster_id(&renamed, "t", None));
        assert_ne!(cluster, cluster_id(&named, "u", None));
        let backup = |byte| Some(BackupId::new([byte; 32]));
        assert_ne!(cluster, cluster_id(&named, "t", backup(1)));
        assert_ne!(
            cluster_id(&named, "t", backup(1)),
            cluster_id(&named, "t", backup(2))
        );
        assert_ne!(
            added_member_id(&a, cluster, 1),
            added_member_id(&a, cluster, 2)
        );
    }
}

//! Cluster: members, refusals, learners. `membership.rs` tests changes of running members.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, Error, MemberAddOptions};
use synod_testkit::{Refused, refused, until};
use tokio::time::timeout;

use super::Case;
use crate::differences::CHANGE_AFTER_CHANGE;

/// If stock etcd doesn't answer a membership change within this time, it has dropped it.
const DROPPED_AFTER: Duration = Duration::from_secs(5);

/// Requests a membership change. Repeats it if stock etcd drops it; ours must answer.
async fn change<T>(
    case: &Case,
    call: impl AsyncFn(Client) -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 1..CHANGE_AFTER_CHANGE.expect(case.server, 5, 1) {
        if let Ok(answer) = timeout(DROPPED_AFTER, call(case.client.clone())).await {
            return answer;
        }
    }
    call(case.client.clone()).await
}

pub(crate) async fn members(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let list = client.member_list().await?;
    let header = list.header().context("a header")?;
    // Cluster calls return no revision.
    assert_eq!(header.revision(), 0);
    ensure!(
        header.cluster_id() != 0 && header.member_id() != 0,
        "{header:?}"
    );
    let own = header.member_id();
    ensure!(
        list.members().iter().any(|member| member.id() == own),
        "{list:?}"
    );
    for member in list.members() {
        ensure!(
            !member.name().is_empty() && !member.is_learner(),
            "{member:?}"
        );
        ensure!(
            member.peer_urls().len() == 1 && member.client_urls().len() == 1,
            "{member:?}"
        );
    }
    Ok(())
}

pub(crate) async fn refusals(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let not_found = Refused::with("NotFound", "etcdserver: member not found");
    let removal = change(&case, async |mut client| client.member_remove(77).await).await;
    assert_eq!(refused(removal)?, not_found);
    assert_eq!(refused(client.member_promote(77).await)?, not_found);
    let nowhere = || ["http://127.0.0.1:1".to_owned()];
    let update = change(&case, async |mut client| {
        client.member_update(77, nowhere()).await
    })
    .await;
    assert_eq!(refused(update)?, not_found);
    let learner = || Some(MemberAddOptions::new().with_is_learner());
    for bad in [
        "http://127.0.0.1",
        "ftp://127.0.0.1:1",
        "http://127.0.0.1:1/path",
    ] {
        assert_eq!(
            refused(client.member_add([bad], learner()).await)?,
            Refused::with(
                "InvalidArgument",
                "etcdserver: given member URLs are invalid"
            ),
            "{bad}"
        );
    }
    let list = client.member_list().await?;
    let (id, url) = (
        list.members()[0].id(),
        list.members()[0].peer_urls()[0].clone(),
    );
    let again = change(&case, async |mut client| {
        client.member_add([url.clone()], learner()).await
    })
    .await;
    assert_eq!(
        refused(again)?,
        Refused::with("FailedPrecondition", "etcdserver: Peer URLs already exists")
    );
    assert_eq!(
        refused(client.member_promote(id).await)?,
        Refused::with(
            "FailedPrecondition",
            "etcdserver: can only promote a learner member"
        )
    );
    Ok(())
}

/// A learner that never starts. It doesn't vote and can't be promoted.
pub(crate) async fn learners(case: Case) -> Result<()> {
    let mut client = case.client.clone();
    let before = client.member_list().await?.members().len();
    let learner = || Some(MemberAddOptions::new().with_is_learner());
    let added = change(&case, async |mut client| {
        client.member_add(["http://127.0.0.1:1"], learner()).await
    })
    .await?;
    let member = added.member().context("the new member")?;
    ensure!(
        member.is_learner() && member.name().is_empty(),
        "{member:?}"
    );
    assert_eq!(added.member_list().len(), before + 1);
    assert_eq!(added.header().context("a header")?.revision(), 0);
    assert_eq!(
        refused(client.member_add(["http://127.0.0.1:2"], learner()).await)?,
        Refused::with(
            "FailedPrecondition",
            "etcdserver: too many learner members in cluster"
        )
    );
    assert_eq!(
        refused(client.member_promote(member.id()).await)?,
        Refused::with(
            "FailedPrecondition",
            "etcdserver: can only promote a learner member which is in sync with leader"
        )
    );
    let id = member.id();
    change(&case, async |mut client| {
        client
            .member_update(id, ["http://127.0.0.1:3".to_owned()])
            .await
    })
    .await?;
    let list = client.member_list().await?;
    let updated = list
        .members()
        .iter()
        .find(|member| member.id() == id)
        .context("it is there")?;
    assert_eq!(updated.peer_urls(), ["http://127.0.0.1:3"]);
    let removed = change(&case, async |mut client| client.member_remove(id).await).await?;
    assert_eq!(removed.members().len(), before);
    // The id of a removed member is never reused.
    until(
        "the removal to be known",
        Duration::from_secs(30),
        async || Ok((client.member_list().await?.members().len() == before).then_some(())),
    )
    .await?;
    let once_more = change(&case, async |mut client| client.member_remove(id).await).await;
    assert_eq!(
        refused(once_more)?,
        Refused::with("NotFound", "etcdserver: member not found")
    );
    Ok(())
}

//! What is wrong outside the server: each ends with a text that says what, where, and what to do.

mod clients;
mod data;
mod full_disk;
mod start;

use anyhow::{Result, ensure};
use synod_testkit::{Cluster, Lab};

/// Starts a member that must refuse: it ends with a failure, and says all of `words`.
pub(crate) async fn refuses(
    lab: &Lab,
    cluster: &mut Cluster,
    index: usize,
    words: &[&str],
) -> Result<String> {
    let (status, said) = cluster.launch_and_fail(lab, index).await?;
    ensure!(
        !status.success(),
        "it should fail, but ended with {status}: {said}"
    );
    // A panic is no error message.
    ensure!(!said.contains("panicked at"), "{said}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is missing in: {said}");
    }
    Ok(said)
}

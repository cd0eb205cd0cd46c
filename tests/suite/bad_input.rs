//! Errors outside the server. Each ends with a message that says what is wrong, where, and what to
//! do.

mod clients;
mod data;
mod full_disk;
mod start;

use anyhow::{Result, ensure};
use synod_testkit::{Cluster, Lab};

/// Starts a member that must refuse to start. It must exit with a failure and print all of `words`.
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
    // A panic is not an error message.
    ensure!(!said.contains("panicked at"), "{said}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is missing in: {said}");
    }
    Ok(said)
}

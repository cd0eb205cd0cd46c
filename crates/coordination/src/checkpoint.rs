//! Checkpoints: the state as pages in the endpoint, so that the log can be cut.
//!
//! The leading pod writes them in the background, in this order:
//! 1. The pages that have changed since the last checkpoint, under their own and their last
//!    transaction's name, so that they replace nothing. [`PageId::Meta`] comes last.
//! 2. The manifest, which names the checkpoint's place in the log. From then on it is the one that
//!    pods load.
//! 3. Only then it deletes what neither this checkpoint nor the one before it needs: pages, and the
//!    batches that both contain.
//!
//! Every write requires the leadership. A pod can load a checkpoint, and follow the log from there,
//! until the next but one is complete. If that takes it longer, it misses pages and starts again.

mod manifest;
mod writer;

use synod_coordination_core::{LoadError, Loader, LogNumber, Machine, PageId, Zxid};
use synod_runtime::{random, task};

use crate::endpoint::{Endpoint, EndpointError};
pub(crate) use manifest::Manifest;
pub(crate) use writer::{CheckpointLimits, Writer};

/// How many pages one read returns. A page has 512 KiB at most, but for those with a large node.
const PAGES_PER_READ: usize = 32;

/// Why a checkpoint can't be loaded or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// A call failed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The pages do not make a checkpoint. If it was replaced meanwhile, the next one does.
    #[error("the checkpoint of batch {number}: {error}")]
    Load {
        /// Its place in the log.
        number: LogNumber,
        /// What is wrong.
        error: LoadError,
    },
    /// The state was replaced while its pages were written.
    #[error("the state was replaced while its checkpoint was written")]
    Dropped,
    /// The manifest was replaced, by an earlier attempt that arrived late.
    #[error("the manifest was replaced while the next checkpoint was written")]
    Changed,
}

/// Loads the checkpoint, if there is one that is ahead of `applied`.
pub(crate) async fn load(
    endpoint: &Endpoint,
    applied: LogNumber,
) -> Result<Option<(Machine, LogNumber)>, CheckpointError> {
    let Some((manifest, _)) = Manifest::read(endpoint).await? else {
        return Ok(None);
    };
    if manifest.number <= applied {
        return Ok(None);
    }
    let machine = load_named(endpoint, &manifest).await?;
    Ok(Some((machine, manifest.number)))
}

/// Loads the checkpoint that the manifest names.
pub(crate) async fn load_named(
    endpoint: &Endpoint,
    manifest: &Manifest,
) -> Result<Machine, CheckpointError> {
    let number = manifest.number;
    let failed = |error| CheckpointError::Load { number, error };
    let meta = manifest.meta(endpoint).await?;
    let mut loader = Loader::new(random::seed(), &meta).map_err(failed)?;
    let missing: Vec<(PageId, Zxid)> = loader.missing().collect();
    for pages in missing.chunks(PAGES_PER_READ) {
        let read = endpoint.pages(pages).await?;
        let pages = pages.to_vec();
        // Decoding megabytes takes too long for the runtime's threads.
        loader = blocking(move || {
            for (&(page, _), parts) in pages.iter().zip(&read) {
                loader.add(page, parts)?;
            }
            Ok(loader)
        })
        .await
        .map_err(failed)?;
    }
    blocking(move || loader.finish()).await.map_err(failed)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

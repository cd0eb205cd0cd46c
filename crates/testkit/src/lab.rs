//! One test's laboratory: a temporary folder, its share of the machine, a deadline, and the logs of
//! its processes on failure.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::process::tail;

/// Servers that may run at a time in one test process: more make two cores miss heartbeats, and
/// then tests fail for reasons that aren't theirs.
const SHARES: u32 = 4;

/// How long any test may take, unless it asks for more.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);

/// How much of the machine a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// One server: another small test may run beside it.
    Small,
    /// Three servers or exact timing: nothing runs beside it.
    Whole,
}

/// The surroundings of one test.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    logs: RefCell<Vec<(String, PathBuf)>>,
    _share: SemaphorePermit<'static>,
}

impl Lab {
    async fn open(share: Share) -> Result<Self> {
        static MACHINE: OnceLock<Semaphore> = OnceLock::new();
        let machine = MACHINE.get_or_init(|| Semaphore::new(SHARES as usize));
        let permits = match share {
            Share::Small => SHARES / 2,
            Share::Whole => SHARES,
        };
        let share = machine
            .acquire_many(permits)
            .await
            .context("the semaphore never closes")?;
        let folder = tempfile::Builder::new().prefix("synod-test-").tempdir()?;
        Ok(Self {
            folder,
            logs: RefCell::default(),
            _share: share,
        })
    }

    /// The test's own folder, removed at its end.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path for the log of a process, which is shown when the test fails.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.log"));
        let mut logs = self.logs.borrow_mut();
        if !logs.iter().any(|(known, _)| known == name) {
            logs.push((name.to_owned(), path.clone()));
        }
        path
    }

    #[expect(
        clippy::print_stderr,
        reason = "the test runner captures only what the macro prints"
    )]
    fn show_logs(&self) {
        for (name, path) in self.logs.borrow().iter() {
            eprintln!("---- last lines of {name} ----\n{}", tail(path));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
    }
}

/// Runs one test in a lab of its own, with a deadline of three minutes, and shows the logs of its
/// processes when it fails.
///
/// # Errors
/// The test's own error, or that it took too long.
pub fn run(share: Share, test: impl AsyncFnOnce(&Lab) -> Result<()>) -> Result<()> {
    run_within(share, DEFAULT_DEADLINE, test)
}

/// Like [`run`], with another deadline.
///
/// # Errors
/// The test's own error, or that it took longer than `deadline`.
pub fn run_within(
    share: Share,
    deadline: Duration,
    test: impl AsyncFnOnce(&Lab) -> Result<()>,
) -> Result<()> {
    // Current-thread: children are bound to the life of the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lab = Lab::open(share).await?;
        let verdict = tokio::time::timeout(deadline, test(&lab)).await;
        let verdict = verdict
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the test took longer than {deadline:?}")));
        if verdict.is_err() {
            lab.show_logs();
        }
        verdict
    })
}

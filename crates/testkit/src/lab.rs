//! The environment of a test: a temporary directory, its share of the machine, a deadline, and its
//! processes' logs on failure.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::process::tail;

/// The maximum number of servers in one test process. With more, two cores miss heartbeats and
/// tests fail for unrelated reasons.
const SHARES: u32 = 4;

/// The default deadline of a test.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);

/// The share of the machine that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// One server. Other small tests may run at the same time.
    Small,
    /// Three servers or exact timing. No other test runs at the same time.
    Whole,
}

/// The environment of one test.
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

    /// The test's directory, removed at its end.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path for a process's log, which is shown if the test fails.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.log"));
        let mut logs = self.logs.borrow_mut();
        if !logs.iter().any(|(known, _)| known == name) {
            logs.push((name.to_owned(), path.clone()));
        }
        path
    }

    /// The error comes first: some viewers cut the end off.
    #[expect(
        clippy::print_stderr,
        reason = "the test runner captures only what the macro prints"
    )]
    fn show_failure(&self, error: &anyhow::Error) {
        eprintln!("failed: {error:#}");
        self.show_logs();
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

/// Runs a test in its own lab with the default deadline. Shows its processes' logs if it fails.
///
/// # Errors
/// The test's error, or that it exceeded the deadline.
pub fn run(share: Share, test: impl AsyncFnOnce(&Lab) -> Result<()>) -> Result<()> {
    run_within(share, DEFAULT_DEADLINE, test)
}

/// Like [`run`], with a different deadline.
///
/// # Errors
/// The test's error, or that it took longer than `deadline`.
pub fn run_within(
    share: Share,
    deadline: Duration,
    test: impl AsyncFnOnce(&Lab) -> Result<()>,
) -> Result<()> {
    // Current-thread, because child processes die with the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let lab = Lab::open(share).await?;
        let verdict = tokio::time::timeout(deadline, test(&lab)).await;
        let verdict = verdict
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the test took longer than {deadline:?}")));
        if let Err(error) = &verdict {
            lab.show_failure(error);
        }
        verdict
    })
}

//! A cloneable shutdown token, and the signals that request a shutdown.

use std::{fmt, io};

use tokio::signal::unix::{SignalKind, signal as unix_signal};
use tokio_util::sync::CancellationToken;

/// A one-way flag shared by everything that must stop together.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Creates a token that is not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is triggered together with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Triggers the shutdown. Triggering it again has no effect.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the shutdown was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the shutdown is triggered.
    ///
    /// # Cancel safety
    /// The future may be dropped and the call repeated.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }
}

/// A signal that requests a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// `SIGTERM`, from an orchestrator.
    Terminate,
    /// `SIGINT`, from a terminal.
    Interrupt,
}

impl fmt::Display for StopSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Waits for SIGTERM or SIGINT. After the first call these signals no longer end the process by
/// themselves. Call it again to receive a second signal.
///
/// # Errors
/// The signal handlers can't be installed.
///
/// # Cancel safety
/// A signal that arrives between two calls may be lost.
pub async fn signal() -> io::Result<StopSignal> {
    let mut terminate = unix_signal(SignalKind::terminate())?;
    let mut interrupt = unix_signal(SignalKind::interrupt())?;
    // Not `biased`: both signals mean the same and are rare.
    tokio::select! {
        _ = terminate.recv() => Ok(StopSignal::Terminate),
        _ = interrupt.recv() => Ok(StopSignal::Interrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_follows_its_parent_but_not_the_other_way_round() {
        let parent = Shutdown::new();
        let (lone, child) = (parent.child(), parent.child());
        lone.trigger();
        assert!(lone.is_triggered() && !parent.is_triggered());
        parent.trigger();
        child.triggered().await;
        assert!(child.is_triggered());
    }
}

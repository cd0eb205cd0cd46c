//! Shutdown as a cloneable token, and the signals that ask for it.

use std::{fmt, io};

use tokio::signal::unix::{SignalKind, signal as unix_signal};
use tokio_util::sync::CancellationToken;

/// A one-way switch shared by everything that must stop together.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A switch that is not thrown yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A switch that is thrown with this one, and can be thrown alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Throws the switch. Doing it again has no effect.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the switch is thrown.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the switch is thrown.
    ///
    /// # Cancel safety
    /// Safe to drop and call again.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }
}

/// A signal that asks the process to stop.
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

/// Waits for SIGTERM or SIGINT. From the first call on, these no longer kill the process by
/// themselves: call it again to notice an impatient second signal.
///
/// # Errors
/// When the signal handlers can't be installed.
///
/// # Cancel safety
/// A signal that arrives between two calls may be lost.
pub async fn signal() -> io::Result<StopSignal> {
    let mut terminate = unix_signal(SignalKind::terminate())?;
    let mut interrupt = unix_signal(SignalKind::interrupt())?;
    // No `biased`: either signal means the same, and they don't come in floods.
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

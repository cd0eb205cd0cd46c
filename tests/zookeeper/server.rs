//! The server under test.

use std::time::Duration;

use anyhow::{Context, Result};
use synod_testkit::zookeeper::{ZooKeeper, four_letter_word};
use synod_testkit::{Cluster, Lab, Pods, until};

/// How long a server may take to notice that it is alone, or no longer.
const SOON: Duration = Duration::from_secs(60);

/// A running server or ensemble, with all that a scenario may do to it.
pub(crate) struct Server<'a> {
    running: Running,
    lab: &'a Lab,
}

enum Running {
    ZooKeeper(ZooKeeper),
    /// Pods, and the endpoint that holds their log.
    Synod {
        pods: Pods,
        /// Ends with the pods.
        _endpoint: Cluster,
    },
}

impl<'a> Server<'a> {
    pub(crate) fn zookeeper(running: ZooKeeper, lab: &'a Lab) -> Self {
        Self {
            running: Running::ZooKeeper(running),
            lab,
        }
    }

    pub(crate) fn synod(pods: Pods, cluster: Cluster, lab: &'a Lab) -> Self {
        Self {
            running: Running::Synod {
                pods,
                _endpoint: cluster,
            },
            lab,
        }
    }

    /// What scenarios call it.
    pub(crate) fn name(&self) -> &'static str {
        match self.running {
            Running::ZooKeeper(_) => "zookeeper",
            Running::Synod { .. } => "synod",
        }
    }

    /// The address of a server, counted from 1.
    pub(crate) fn address(&self, number: usize) -> Result<String> {
        let addresses = match &self.running {
            Running::ZooKeeper(running) => running.addresses(),
            Running::Synod { pods, .. } => pods.addresses(),
        };
        let address = number.checked_sub(1).and_then(|index| addresses.get(index));
        address
            .cloned()
            .with_context(|| format!("there is no server {number}"))
    }

    /// `kill NUMBER`, `restart NUMBER`, or `await-mode NUMBER MODE` with the mode `rw` or `ro`.
    pub(crate) async fn command(&mut self, text: &str) -> Result<()> {
        let mut words = text.split_whitespace();
        let name = words.next().context("a command has a name")?;
        let number: usize = words.next().context("a server's number")?.parse()?;
        let address = self.address(number)?;
        match name {
            "kill" => match &mut self.running {
                Running::ZooKeeper(running) => running.kill(number - 1),
                Running::Synod { pods, .. } => pods.kill(number - 1),
            },
            "restart" => match &mut self.running {
                Running::ZooKeeper(running) => running.restart(self.lab, number - 1).await,
                Running::Synod { pods, .. } => {
                    pods.launch(self.lab, number - 1)?;
                    pods.ready(number - 1).await
                }
            },
            "await-mode" => {
                let mode = words.next().context("a mode")?;
                until(&format!("the mode {mode}"), SOON, async || {
                    let answer = four_letter_word(&address, "isro").await?;
                    Ok((answer == mode).then_some(()))
                })
                .await
            }
            other => anyhow::bail!("{other} is no command"),
        }
    }
}

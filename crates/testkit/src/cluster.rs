//! Clusters of server processes, stock etcd or ours, started with the same flags.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, ConnectOptions, StatusResponse};

use crate::lab::Lab;
use crate::process::Launch;
use crate::{
    Etcdctl, Fault, Port, Process, Proxy, Server, Topology, connect, connect_with, http_get, until,
};

/// Timeout for a server to serve writes.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Timeout for a server to stop after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The key that readiness checks delete. It is never written.
const PROBE_KEY: &str = "\u{1}synod-testkit-probe";

/// The parts of a member's command line.
#[derive(Debug)]
pub struct NodeSpec {
    /// `--name`.
    pub name: String,
    /// The client port.
    pub client: Port,
    /// The peer port.
    pub peer: Port,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--initial-cluster-state`.
    pub state: &'static str,
    /// `--initial-cluster`.
    pub initial_cluster: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// Additional flags.
    pub flags: Vec<String>,
}

/// One member.
#[derive(Debug)]
pub struct Node {
    /// The parts of its command line. A test may change them before a restart.
    pub spec: NodeSpec,
    /// The proxy in front of its peer port, if the cluster is proxied.
    pub proxy: Option<Proxy>,
    process: Option<Process>,
}

impl Node {
    /// The peer URL that the other members use.
    #[must_use]
    pub fn peer_url(&self) -> String {
        self.proxy
            .as_ref()
            .map_or_else(|| self.spec.peer.url(), |proxy| proxy.port().url())
    }

    /// The process, if it was started and not killed or stopped.
    ///
    /// # Errors
    /// It isn't running.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} is not running", self.spec.name))
    }

    /// Whether it was started and not killed or stopped.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }
}

/// A cluster. Dropping it kills its members.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    program: PathBuf,
    topology: Topology,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts the members and waits until each of them serves writes.
    ///
    /// # Errors
    /// A member exits or isn't ready within `READY_WITHIN`.
    pub async fn start(lab: &Lab, server: Server, topology: Topology) -> Result<Self> {
        let mut cluster = Self::prepare(lab, server, topology, "c1").await?;
        for index in 0..cluster.nodes.len() {
            cluster.launch(lab, index)?;
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Chooses ports and directories (inside the lab's, by `label`) without starting anything.
    ///
    /// # Errors
    /// The server's program or a free port is missing.
    pub async fn prepare(
        lab: &Lab,
        server: Server,
        topology: Topology,
        label: &str,
    ) -> Result<Self> {
        let program = server.program()?;
        let mut cluster = Self {
            server,
            program,
            topology,
            nodes: Vec::new(),
        };
        for number in 1..=cluster.topology.nodes.max(1) {
            cluster.add_node(lab, &format!("n{number}"), label).await?;
        }
        let all = cluster.initial_cluster();
        for node in &mut cluster.nodes {
            node.spec.initial_cluster.clone_from(&all);
        }
        Ok(cluster)
    }

    /// Prepares one more member. It joins the existing cluster when it is launched.
    ///
    /// # Errors
    /// No port is free.
    pub async fn add_node(&mut self, lab: &Lab, name: &str, label: &str) -> Result<usize> {
        let state = if self.nodes.iter().any(Node::is_up) {
            "existing"
        } else {
            "new"
        };
        let spec = NodeSpec {
            name: name.to_owned(),
            client: Port::reserve()?,
            peer: Port::reserve()?,
            data_dir: lab.folder().join(label).join(name),
            state,
            initial_cluster: String::new(),
            token: label.to_owned(),
            flags: self.topology.flags.clone(),
        };
        std::fs::create_dir_all(lab.folder().join(label))?;
        let proxy = match self.topology.proxied {
            true => Some(Proxy::start(spec.peer.address()).await?),
            false => None,
        };
        self.nodes.push(Node {
            spec,
            proxy,
            process: None,
        });
        let all = self.initial_cluster();
        let index = self.nodes.len() - 1;
        self.nodes[index].spec.initial_cluster = all;
        Ok(index)
    }

    /// The kind of server.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server
    }

    /// The members, ordered by name.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A member, counted from 0.
    #[must_use]
    pub fn node(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// The client URLs of all members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.spec.client.url())
            .collect()
    }

    /// A member's client URL.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> String {
        self.nodes[index].spec.client.url()
    }

    /// A client of only one member.
    ///
    /// # Errors
    /// See [`connect`].
    pub async fn client(&self, index: usize) -> Result<Client> {
        connect(&[self.endpoint(index)]).await
    }

    /// An `etcdctl` for only one member.
    ///
    /// # Errors
    /// See [`Etcdctl::new`].
    pub fn etcdctl(&self, index: usize) -> Result<Etcdctl> {
        Etcdctl::new(&[self.endpoint(index)])
    }

    /// Starts a member's process without waiting until it is ready.
    ///
    /// # Errors
    /// It is already running, or its program can't be started.
    pub fn launch(&mut self, lab: &Lab, index: usize) -> Result<()> {
        let args = self.args(index);
        let node = &mut self.nodes[index];
        ensure!(node.process.is_none(), "{} runs already", node.spec.name);
        let label = format!("{}-{}", node.spec.token, node.spec.name);
        node.process = Some(Process::start(Launch {
            name: &node.spec.name,
            program: &self.program,
            args: &args,
            envs: &self.topology.envs,
            log: lab.log(&label),
            max_file_bytes: self.topology.max_file_bytes,
        })?);
        Ok(())
    }

    /// Starts a member and waits until it serves writes.
    ///
    /// # Errors
    /// It exits or isn't ready within `READY_WITHIN`.
    pub async fn launch_and_wait(&mut self, lab: &Lab, index: usize) -> Result<()> {
        self.launch(lab, index)?;
        self.node_ready(index).await
    }

    /// Starts a member that is expected to refuse to start. Returns its exit status and its output.
    ///
    /// # Errors
    /// It is still running after `STOP_WITHIN`.
    pub async fn launch_and_fail(
        &mut self,
        lab: &Lab,
        index: usize,
    ) -> Result<(ExitStatus, String)> {
        self.launch(lab, index)?;
        let Some(mut process) = self.nodes[index].process.take() else {
            bail!("the process was just launched")
        };
        let status = process.ended(STOP_WITHIN).await?;
        Ok((status, process.log_text()))
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The member isn't running.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.nodes[index].process()?.kill()?;
        self.nodes[index].process = None;
        Ok(())
    }

    /// Sends SIGTERM. The exit status shows whether the member stopped cleanly.
    ///
    /// # Errors
    /// The member isn't running, or doesn't stop within `STOP_WITHIN`.
    pub async fn stop(&mut self, index: usize) -> Result<ExitStatus> {
        let status = self.nodes[index].process()?.terminate(STOP_WITHIN).await?;
        self.nodes[index].process = None;
        Ok(status)
    }

    /// Waits until every started member serves writes.
    ///
    /// # Errors
    /// A member has exited, or isn't ready within `READY_WITHIN`.
    pub async fn ready(&mut self) -> Result<()> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_up() {
                self.node_ready(index).await?;
            }
        }
        Ok(())
    }

    /// Waits until a member reports that it is healthy and a write through it succeeds. The write
    /// deletes a key that doesn't exist, so it goes through the log without changing the revision.
    ///
    /// # Errors
    /// The member has exited, or isn't ready within `READY_WITHIN`.
    pub async fn node_ready(&mut self, index: usize) -> Result<()> {
        let address = self.nodes[index].spec.client.address();
        let endpoint = self.endpoint(index);
        let name = self.nodes[index].spec.name.clone();
        let node = &mut self.nodes[index];
        let mut ended = false;
        let probe = async || {
            if !node.process()?.is_running() {
                // Waiting longer is useless, so this is the last attempt.
                ended = true;
                return Ok(Some(()));
            }
            let health = http_get(&address, "/health").await?;
            ensure!(
                health.status == 200,
                "/health: {} {}",
                health.status,
                health.body
            );
            let quick = ConnectOptions::new().with_timeout(Duration::from_secs(2));
            connect_with(std::slice::from_ref(&endpoint), quick)
                .await?
                .delete(PROBE_KEY, None)
                .await?;
            Ok(Some(()))
        };
        until(&format!("{name} to serve writes"), READY_WITHIN, probe).await?;
        ensure!(!ended, "{name} exited before it was ready");
        Ok(())
    }

    /// Waits until a member answers. For members that can't serve writes, such as learners: only
    /// the health page is checked.
    ///
    /// # Errors
    /// It doesn't answer within `READY_WITHIN`.
    pub async fn node_answers(&mut self, index: usize) -> Result<()> {
        let endpoint = self.endpoint(index);
        until(
            &format!("{endpoint} to answer Status"),
            READY_WITHIN,
            async || {
                let mut client = connect(std::slice::from_ref(&endpoint)).await?;
                Ok(Some(client.status().await?))
            },
        )
        .await?;
        Ok(())
    }

    /// A member's `Status` response.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn status(&self, index: usize) -> Result<StatusResponse> {
        let quick = ConnectOptions::new().with_timeout(Duration::from_secs(2));
        let mut client = connect_with(&[self.endpoint(index)], quick).await?;
        Ok(client.status().await?)
    }

    /// The leader among the running members.
    ///
    /// # Errors
    /// No member leads within `READY_WITHIN`.
    pub async fn leader(&self) -> Result<usize> {
        until("a leader", READY_WITHIN, async || {
            for (index, node) in self.nodes.iter().enumerate() {
                let Ok(status) = (if node.is_up() {
                    self.status(index).await
                } else {
                    continue;
                }) else {
                    continue;
                };
                let own = status.header().map(etcd_client::ResponseHeader::member_id);
                if status.leader() != 0 && own == Some(status.leader()) {
                    return Ok(Some(index));
                }
            }
            Ok(None)
        })
        .await
    }

    /// A running member that isn't the leader.
    ///
    /// # Errors
    /// There is no leader, or no other running member.
    pub async fn follower(&self) -> Result<usize> {
        let leader = self.leader().await?;
        (0..self.nodes.len())
            .find(|index| *index != leader && self.nodes[*index].is_up())
            .context("no follower is up")
    }

    /// Disconnects a member from the others in both directions. Requires a proxied cluster.
    ///
    /// # Errors
    /// The cluster isn't proxied, or the member isn't running.
    pub fn isolate(&mut self, index: usize) -> Result<()> {
        let pid = self.nodes[index].process()?.pid();
        for (other, node) in self.nodes.iter().enumerate() {
            let proxy = node
                .proxy
                .as_ref()
                .context("only a proxied cluster can be partitioned")?;
            if other == index {
                proxy.set(Fault::Cut);
            } else {
                proxy.set_for(pid, Fault::Cut);
            }
        }
        Ok(())
    }

    /// Removes all faults between members.
    pub fn heal(&self) {
        for proxy in self.nodes.iter().filter_map(|node| node.proxy.as_ref()) {
            proxy.heal();
        }
    }

    fn initial_cluster(&self) -> String {
        let one = |node: &Node| format!("{}={}", node.spec.name, node.peer_url());
        self.nodes.iter().map(one).collect::<Vec<_>>().join(",")
    }

    fn args(&self, index: usize) -> Vec<OsString> {
        let node = &self.nodes[index];
        let spec = &node.spec;
        let mut args: Vec<OsString> = Vec::new();
        let mut pair = |flag: &str, value: &str| args.extend([flag.into(), value.into()]);
        pair("--name", &spec.name);
        pair("--listen-client-urls", &spec.client.url());
        pair("--advertise-client-urls", &spec.client.url());
        pair("--listen-peer-urls", &spec.peer.url());
        pair("--initial-advertise-peer-urls", &node.peer_url());
        pair("--initial-cluster", &spec.initial_cluster);
        pair("--initial-cluster-state", spec.state);
        pair("--initial-cluster-token", &spec.token);
        args.extend(["--data-dir".into(), spec.data_dir.clone().into_os_string()]);
        args.extend(self.server.engine_flag().map(OsString::from));
        // Later flags take precedence, so a test may override them for one member.
        args.extend(spec.flags.iter().map(OsString::from));
        args
    }
}

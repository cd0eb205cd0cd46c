//! Pods of the coordination service, over any etcd v3 endpoint.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::binary::coordination_binary;
use crate::lab::Lab;
use crate::process::Launch;
use crate::zookeeper::serving;
use crate::{Port, Process};

/// Timeout for a pod to serve clients.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The shape of a service.
#[derive(Clone, Debug)]
pub struct PodOptions {
    /// How many pods.
    pub pods: usize,
    /// ZooKeeper's `tickTime`: session timeouts are between 2 and 20 ticks.
    pub tick_ms: u32,
    /// Whether the ports for gRPC have TLS. The flags name the certificates.
    pub secure: bool,
    /// More flags.
    pub flags: Vec<String>,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            pods: 1,
            tick_ms: 2000,
            secure: false,
            flags: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Pod {
    zookeeper: Port,
    grpc: Port,
    metrics: Port,
    process: Option<Process>,
}

/// Running pods. Dropping it kills them.
#[derive(Debug)]
pub struct Pods {
    endpoints: Vec<String>,
    options: PodOptions,
    pods: Vec<Pod>,
}

impl Pods {
    /// Starts the pods over the endpoint with these URLs, and waits until each serves clients.
    ///
    /// # Errors
    /// The binary can't be built, or a pod isn't ready in time.
    pub async fn start(lab: &Lab, endpoints: &[String], options: PodOptions) -> Result<Self> {
        let mut service = Self::prepare(endpoints, options)?;
        for index in 0..service.pods.len() {
            service.launch(lab, index)?;
        }
        for index in 0..service.pods.len() {
            service.ready(index).await?;
        }
        Ok(service)
    }

    /// Pods that are not started.
    ///
    /// # Errors
    /// No port is free.
    pub fn prepare(endpoints: &[String], options: PodOptions) -> Result<Self> {
        let mut service = Self {
            endpoints: endpoints.to_vec(),
            options,
            pods: Vec::new(),
        };
        for _ in 0..service.options.pods.max(1) {
            service.pods.push(Pod {
                zookeeper: Port::reserve()?,
                grpc: Port::reserve()?,
                metrics: Port::reserve()?,
                process: None,
            });
        }
        Ok(service)
    }

    /// Where ZooKeeper's clients reach a pod, counted from 0.
    #[must_use]
    pub fn address(&self, index: usize) -> String {
        self.pods[index].zookeeper.address()
    }

    /// Where ZooKeeper's clients reach the pods.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        (0..self.pods.len())
            .map(|index| self.address(index))
            .collect()
    }

    /// Where gRPC's clients reach a pod.
    #[must_use]
    pub fn url(&self, index: usize) -> String {
        let scheme = if self.options.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.pods[index].grpc.address())
    }

    /// Where a pod's health and metrics are.
    #[must_use]
    pub fn metrics_url(&self, index: usize) -> String {
        self.pods[index].metrics.url()
    }

    /// A pod's process, if it was started and not killed.
    ///
    /// # Errors
    /// It isn't running.
    pub fn process(&mut self, index: usize) -> Result<&mut Process> {
        let process = self.pods[index].process.as_mut();
        process.with_context(|| format!("pod {index} is not running"))
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The pod isn't running.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.process(index)?.kill()?;
        self.pods[index].process = None;
        Ok(())
    }

    /// Starts a pod that was killed. Does not wait until it serves.
    ///
    /// # Errors
    /// It is running, or can't be started.
    pub fn launch(&mut self, lab: &Lab, index: usize) -> Result<()> {
        let name = format!("pod-{}", index + 1);
        let url = self.url(index);
        let pod = &mut self.pods[index];
        ensure!(pod.process.is_none(), "{name} runs already");
        let mut flags = vec![
            format!("--name={name}"),
            format!("--endpoints={}", self.endpoints.join(",")),
            format!("--listen-zookeeper={}", pod.zookeeper.address()),
            format!("--listen-urls={url}"),
            format!("--listen-metrics-urls={}", pod.metrics.url()),
            format!("--tick-time={}", self.options.tick_ms),
            "--4lw-whitelist=*".to_owned(),
            "--log-format=json".to_owned(),
        ];
        flags.extend(self.options.flags.iter().cloned());
        let args: Vec<OsString> = flags.into_iter().map(OsString::from).collect();
        pod.process = Some(Process::start(Launch {
            name: &name,
            program: coordination_binary()?,
            args: &args,
            envs: &[],
            log: lab.log(&name),
            max_file_bytes: None,
        })?);
        Ok(())
    }

    /// Waits until a pod serves clients. That takes no transaction.
    ///
    /// # Errors
    /// It does not in time, or has ended.
    pub async fn ready(&mut self, index: usize) -> Result<()> {
        let address = self.address(index);
        serving(self.process(index)?, &address, READY_WITHIN).await
    }
}

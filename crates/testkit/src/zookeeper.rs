//! The real ZooKeeper, as one server or an ensemble, and a client that shows every message.

mod client;
mod install;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::Lab;
use crate::peers::find_program;
use crate::process::Launch;
use crate::{Port, Process, until};

pub use client::{Received, Reply, Transport, ZkClient};
pub use install::{Installed, VERSION, install};

/// Timeout for a server to answer clients.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Timeout for a server to answer a four-letter word.
const WORD_WITHIN: Duration = Duration::from_secs(2);

/// The shape of an ensemble.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of servers; one runs standalone.
    pub servers: usize,
    /// `tickTime`: session timeouts are between 2 and 20 ticks.
    pub tick_ms: u32,
    /// More lines for `zoo.cfg`.
    pub properties: Vec<(String, String)>,
    /// More flags for the Java virtual machine.
    pub jvm_flags: Vec<String>,
    /// Optimizes all code and has a heap of 1 GiB, as for benchmarks. Otherwise it starts fast.
    pub is_for_production: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: 1,
            tick_ms: 2000,
            properties: Vec::new(),
            jvm_flags: Vec::new(),
            is_for_production: false,
        }
    }
}

/// A server of an ensemble.
#[derive(Debug)]
struct Member {
    client: Port,
    quorum: Port,
    election: Port,
    folder: PathBuf,
    process: Option<Process>,
}

/// Running ZooKeeper servers. Dropping it kills them.
#[derive(Debug)]
pub struct ZooKeeper {
    installed: Installed,
    java: PathBuf,
    options: Options,
    members: Vec<Member>,
}

impl ZooKeeper {
    /// Starts the servers and waits until each of them answers clients.
    ///
    /// # Errors
    /// ZooKeeper can't be installed, Java is missing, or a server isn't ready in time.
    pub async fn start(lab: &Lab, options: Options) -> Result<Self> {
        let java = find_program("java").context("java is not on PATH: install a JDK or JRE 17")?;
        let mut ensemble = Self {
            installed: install()?,
            java,
            options,
            members: Vec::new(),
        };
        for number in 1..=ensemble.options.servers.max(1) {
            ensemble.members.push(Member {
                client: Port::reserve()?,
                quorum: Port::reserve()?,
                election: Port::reserve()?,
                folder: lab.folder().join(format!("zookeeper-{number}")),
                process: None,
            });
        }
        for index in 0..ensemble.members.len() {
            ensemble.write_files(index)?;
            ensemble.launch(lab, index)?;
        }
        for index in 0..ensemble.members.len() {
            ensemble.ready(index).await?;
        }
        Ok(ensemble)
    }

    /// The client address of a server, counted from 0.
    #[must_use]
    pub fn address(&self, index: usize) -> String {
        self.members[index].client.address()
    }

    /// The client addresses of all servers.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        (0..self.members.len())
            .map(|index| self.address(index))
            .collect()
    }

    /// A server's process, if it was started and not killed.
    ///
    /// # Errors
    /// It isn't running.
    pub fn process(&mut self, index: usize) -> Result<&mut Process> {
        let process = self.members[index].process.as_mut();
        process.with_context(|| format!("ZooKeeper server {index} is not running"))
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The server isn't running.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.process(index)?.kill()?;
        self.members[index].process = None;
        Ok(())
    }

    /// Starts a server again that was killed, and waits until it answers clients.
    ///
    /// # Errors
    /// It is running, or isn't ready in time.
    pub async fn restart(&mut self, lab: &Lab, index: usize) -> Result<()> {
        self.launch(lab, index)?;
        self.ready(index).await
    }

    fn write_files(&self, index: usize) -> Result<()> {
        let member = &self.members[index];
        let data = member.folder.join("data");
        fs::create_dir_all(&data)?;
        let mut lines = vec![
            format!("dataDir={}", data.display()),
            "clientPortAddress=127.0.0.1".to_owned(),
            format!("clientPort={}", member.client.number()),
            format!("tickTime={}", self.options.tick_ms),
            "initLimit=20".to_owned(),
            "syncLimit=10".to_owned(),
            "maxClientCnxns=0".to_owned(),
            "admin.enableServer=false".to_owned(),
            "extendedTypesEnabled=true".to_owned(),
            "4lw.commands.whitelist=*".to_owned(),
        ];
        if self.members.len() > 1 {
            for (number, other) in (1..).zip(&self.members) {
                let (quorum, election) = (other.quorum.number(), other.election.number());
                lines.push(format!("server.{number}=127.0.0.1:{quorum}:{election}"));
            }
            fs::write(data.join("myid"), format!("{}\n", index + 1))?;
        }
        let more = &self.options.properties;
        lines.extend(more.iter().map(|(name, value)| format!("{name}={value}")));
        lines.push(String::new());
        fs::write(member.folder.join("zoo.cfg"), lines.join("\n"))?;
        Ok(())
    }

    fn launch(&mut self, lab: &Lab, index: usize) -> Result<()> {
        let name = format!("zookeeper-{}", index + 1);
        let member = &mut self.members[index];
        ensure!(member.process.is_none(), "{name} runs already");
        // Tests need little memory, and compiled code that is ready soon.
        let machine: &[&str] = match self.options.is_for_production {
            true => &["-Xmx1g"],
            false => &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        };
        let mut args: Vec<OsString> = machine.iter().map(OsString::from).collect();
        args.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".into());
        args.extend(self.options.jvm_flags.iter().map(OsString::from));
        args.push("-cp".into());
        args.push(self.installed.class_path());
        args.push("org.apache.zookeeper.server.quorum.QuorumPeerMain".into());
        args.push(member.folder.join("zoo.cfg").into());
        member.process = Some(Process::start(Launch {
            name: &name,
            program: &self.java,
            args: &args,
            envs: &[],
            log: lab.log(&name),
            max_file_bytes: None,
        })?);
        Ok(())
    }

    /// Waits until the server has a role. This uses no zxid, so the first transaction is a test's.
    async fn ready(&mut self, index: usize) -> Result<()> {
        let address = self.address(index);
        serving(self.process(index)?, &address, READY_WITHIN).await
    }
}

/// Waits until a server says which role it has.
pub(crate) async fn serving(process: &mut Process, address: &str, within: Duration) -> Result<()> {
    let name = process.name().to_owned();
    let mut ended = false;
    let probe = async || {
        if !process.is_running() {
            // Waiting longer is useless, so this is the last attempt.
            ended = true;
            return Ok(Some(()));
        }
        let answer = four_letter_word(address, "srvr").await?;
        ensure!(answer.contains("Mode: "), "srvr: {answer}");
        Ok(Some(()))
    };
    until(&format!("{name} to serve"), within, probe).await?;
    ensure!(!ended, "{name} exited before it served");
    Ok(())
}

/// The answer to a four-letter word.
///
/// # Errors
/// The server can't be reached or doesn't answer, or its answer isn't text.
pub async fn four_letter_word(address: &str, word: &str) -> Result<String> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    // A server that is starting may accept a connection and forget it.
    let answer = tokio::time::timeout(WORD_WITHIN, ask).await;
    answer.with_context(|| format!("no answer to {word} within {WORD_WITHIN:?}"))?
}

/// All jar files of a directory, as one entry of a class path.
fn all_jars(folder: &Path) -> OsString {
    folder.join("*").into()
}

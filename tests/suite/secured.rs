//! Clusters whose members and clients know each other by certificates, started as etcd is: by a
//! program called `etcd` and a configuration file.

mod pods;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use synod_testkit::certificates::{Authority, Issued, Subject};
use synod_testkit::{Etcdctl, Lab, Port, Process, Server, until};

use pods::pods_log_in_over_tls;

on_both! {
    Whole => certificates_are_checked_and_replaced_while_clients_work,
    certificates_name_users, pods_log_in_over_tls,
}

/// How long anything may take that should happen soon.
const SOON: Duration = Duration::from_secs(60);

/// The keys of a section of the configuration file.
fn section(authority: &Authority, issued: &Issued) -> String {
    format!(
        "  cert-file: {}\n  key-file: {}\n  trusted-ca-file: {}\n  client-cert-auth: true\n",
        issued.certificate.display(),
        issued.key.display(),
        authority.ca_file().display(),
    )
}

fn config_file(lab: &Lab, member: usize) -> PathBuf {
    lab.folder().join(format!("n{member}.yml"))
}

fn start_member(lab: &Lab, program: &Path, member: usize) -> Result<Process> {
    let flag = format!("--config-file={}", config_file(lab, member).display());
    Process::run(lab, &format!("n{member}"), program, &[&flag])
}

/// Three members and what their clients need.
struct Secured {
    clients: Authority,
    server: Issued,
    endpoints: Vec<String>,
    program: PathBuf,
    members: Vec<Process>,
    _ports: Vec<Port>,
}

impl Secured {
    fn start(lab: &Lab, server: Server) -> Result<Self> {
        let program = lab.folder().join("etcd");
        symlink(server.program()?, &program)?;
        let clients = Authority::new(&lab.folder().join("clients"))?;
        let peers = Authority::new(&lab.folder().join("peers"))?;
        let shown = clients.issue("server", &Subject::new("server"))?;
        let member = peers.issue("member", &Subject::new("member"))?;
        let reserve = || (0..3).map(|_| Port::reserve()).collect::<Result<Vec<_>>>();
        let (client_ports, peer_ports) = (reserve()?, reserve()?);
        let peer_url = |port: &Port| format!("https://{}", port.address());
        let cluster: Vec<_> = peer_ports
            .iter()
            .enumerate()
            .map(|(number, port)| format!("n{number}={}", peer_url(port)))
            .collect();
        let mut members = Vec::new();
        for number in 0..3 {
            let name = format!("n{number}");
            let client_url = format!("https://{}", client_ports[number].address());
            let peer_url = peer_url(&peer_ports[number]);
            let text = format!(
                "name: {name}\ndata-dir: {}\nlisten-client-urls: {client_url}\n\
                 advertise-client-urls: {client_url}\nlisten-peer-urls: {peer_url}\n\
                 initial-advertise-peer-urls: {peer_url}\ninitial-cluster: {}\n\
                 client-transport-security:\n{}peer-transport-security:\n{}",
                lab.folder().join(&name).display(),
                cluster.join(","),
                section(&clients, &shown),
                section(&peers, &member),
            );
            std::fs::write(config_file(lab, number), text)?;
            members.push(start_member(lab, &program, number)?);
        }
        let url = |port: &Port| format!("https://{}", port.address());
        Ok(Self {
            clients,
            server: shown,
            endpoints: client_ports.iter().map(url).collect(),
            program,
            members,
            _ports: client_ports.into_iter().chain(peer_ports).collect(),
        })
    }

    /// Kills a member and starts it again.
    fn restart(&mut self, lab: &Lab, number: usize) -> Result<()> {
        self.members[number].kill()?;
        self.members[number] = start_member(lab, &self.program, number)?;
        Ok(())
    }

    /// A client that shows this certificate.
    fn etcdctl(&self, endpoint: usize, shown: Option<&Issued>) -> Result<Etcdctl> {
        let endpoints = std::slice::from_ref(&self.endpoints[endpoint]);
        Ok(Etcdctl::new(endpoints)?.with_flags(&self.flags(shown)))
    }

    fn flags(&self, shown: Option<&Issued>) -> Vec<String> {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut flags = vec![flag("cacert", &self.clients.ca_file())];
        if let Some(issued) = shown {
            flags.push(flag("cert", &issued.certificate));
            flags.push(flag("key", &issued.key));
        }
        flags
    }

    fn all_run(&mut self) -> bool {
        self.members.iter_mut().all(Process::is_running)
    }
}

async fn certificates_are_checked_and_replaced_while_clients_work(
    lab: &Lab,
    server: Server,
) -> Result<()> {
    let mut cluster = Secured::start(lab, server)?;
    let alice = cluster.clients.issue("alice", &Subject::new("alice"))?;
    let ctl = cluster.etcdctl(0, Some(&alice))?;
    let other = cluster.etcdctl(1, Some(&alice))?;
    until("the first write", SOON, async || {
        Ok(ctl.run(&["put", "k", "0"]).await?.success.then_some(()))
    })
    .await?;
    let watch = ctl.session(lab, "watch", &["watch", "k", "--rev=1"])?;
    watch.prints(|text| text.contains('0')).await?;

    let stranger = Authority::new(&lab.folder().join("strangers"))?;
    let stranger = stranger.issue("alice", &Subject::new("alice"))?;
    for shown in [None, Some(&stranger)] {
        let refused = cluster.etcdctl(0, shown)?;
        let output = refused
            .run(&["--command-timeout=2s", "put", "k", "refused"])
            .await?;
        ensure!(!output.success, "{output:?}");
    }

    // A certificate that new connections must refuse shows that the files are read again.
    let expired = Subject {
        is_expired: true,
        ..Subject::new("server")
    };
    cluster.clients.issue("server", &expired)?;
    until("the new certificate to be shown", SOON, async || {
        let output = other.run(&["--command-timeout=2s", "get", "k"]).await?;
        Ok((!output.success).then_some(()))
    })
    .await?;
    let again = cluster.clients.issue("server", &Subject::new("server"))?;
    ensure!(
        again.certificate == cluster.server.certificate,
        "the same files"
    );
    until("the next certificate to be shown", SOON, async || {
        Ok(other
            .run(&["put", "k", "after"])
            .await?
            .success
            .then_some(()))
    })
    .await?;
    watch.prints(|text| text.contains("after")).await?;
    ensure!(cluster.all_run(), "nobody restarted");

    if !server.is_etcd() {
        synod_status(&synod_testkit::synod_binary()?, &cluster, &alice)?;
    }
    Ok(())
}

/// Our own command with the same files.
fn synod_status(program: &PathBuf, cluster: &Secured, alice: &Issued) -> Result<()> {
    let output = Command::new(program)
        .args(cluster.flags(Some(alice)))
        .args(["status", "-o", "json", "--endpoints"])
        .arg(cluster.endpoints.join(","))
        .output()?;
    let (text, said) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{said}");
    ensure!(text.matches("\"leader\"").count() == 1, "{text}");
    ensure!(text.matches("raft").count() == 3, "{text}");
    Ok(())
}

/// Runs etcdctl, which must succeed.
async fn run(ctl: &Etcdctl, words: &[&str]) -> Result<String> {
    let output = ctl.run(words).await?;
    ensure!(output.success, "{words:?}: {output:?}");
    Ok(output.stdout)
}

/// Without a token the common name of the client's certificate is the user.
async fn certificates_name_users(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Secured::start(lab, server)?;
    let shown = |name: &'static str| cluster.clients.issue(name, &Subject::new(name));
    let root = cluster.etcdctl(0, Some(&shown("root")?))?;
    let alice_shown = shown("alice")?;
    let alice = cluster.etcdctl(1, Some(&alice_shown))?;
    let nobody = cluster.etcdctl(2, Some(&shown("nobody")?))?;
    until("the first write", SOON, async || {
        Ok(root
            .run(&["put", "app/k", "0"])
            .await?
            .success
            .then_some(()))
    })
    .await?;
    for words in [
        &["user", "add", "root", "--no-password"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "alice:secret"],
        &["role", "add", "reader"],
        &[
            "role",
            "grant-permission",
            "reader",
            "--prefix=true",
            "read",
            "app/",
        ],
        &["user", "grant-role", "alice", "reader"],
        &["auth", "enable"],
        &["put", "app/k", "1"],
    ] {
        run(&root, words).await?;
    }
    ensure!(run(&alice, &["get", "app/k"]).await? == "app/k\n1\n");
    let quick = "--command-timeout=5s";
    for (ctl, words) in [
        (&alice, &[quick, "put", "app/k", "2"][..]),
        (&alice, &[quick, "get", "other"]),
        (&alice, &[quick, "user", "list"]),
        (&nobody, &[quick, "get", "app/k"]),
    ] {
        let refused = ctl.run(words).await?;
        let said = format!("{}{}", refused.stdout, refused.stderr);
        ensure!(
            !refused.success && said.contains("permission denied"),
            "{words:?}: {said}"
        );
    }
    // A login says more than the certificate.
    let mut flags = cluster.flags(Some(&alice_shown));
    flags.push("--user=alice:wrong".to_owned());
    let endpoints = std::slice::from_ref(&cluster.endpoints[1]);
    let wrong = Etcdctl::new(endpoints)?.with_flags(&flags);
    let refused = wrong.run(&[quick, "get", "app/k"]).await?;
    ensure!(!refused.success, "{refused:?}");
    run(&root, &["auth", "disable"]).await?;
    ensure!(cluster.all_run(), "a member has ended");
    Ok(())
}

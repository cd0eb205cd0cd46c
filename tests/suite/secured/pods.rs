//! Pods of the coordination service over a cluster that asks for certificates and passwords.

use anyhow::{Context, Result, ensure};
use synod_jute::{Acl, CreateRequest, ErrorCode, ExistsRequest, Request, Response};
use synod_testkit::certificates::{Issued, Subject};
use synod_testkit::zookeeper::ZkClient;
use synod_testkit::{Lab, PodOptions, Pods, Server, until};

use super::{SOON, Secured, run};

/// All keys of the pods.
const ROOT: &str = "/synod/coordination/";

/// The pods show each other the certificates of `shown`, too.
fn flags(cluster: &Secured, shown: &Issued, user: &str) -> Vec<String> {
    let mut flags = vec![format!("--endpoint-user={user}")];
    let ca_file = cluster.clients.ca_file();
    for prefix in ["endpoint-", "peer-", ""] {
        flags.extend([
            format!("--{prefix}trusted-ca-file={}", ca_file.display()),
            format!("--{prefix}cert-file={}", shown.certificate.display()),
            format!("--{prefix}key-file={}", shown.key.display()),
        ]);
    }
    flags
}

/// A pod's user may read and write below the root, and no more.
async fn add_user(cluster: &Secured, shown: &Issued) -> Result<()> {
    let ctl = cluster.etcdctl(0, Some(shown))?;
    until("the first write", SOON, async || {
        Ok(ctl.run(&["put", "k", "0"]).await?.success.then_some(()))
    })
    .await?;
    let permission = ["role", "grant-permission", "pods", "--prefix=true"];
    for words in [
        &["user", "add", "root:root"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "pods:secret"],
        &["role", "add", "pods"],
        &[&permission[..], &["readwrite", ROOT]].concat(),
        &["user", "grant-role", "pods", "pods"],
        &["auth", "enable"],
    ] {
        run(&ctl, words).await?;
    }
    Ok(())
}

/// Creates a node by one pod, and waits until the other one has it.
async fn write(pods: &Pods, by: usize, path: &str) -> Result<()> {
    until(path, SOON, async || {
        let mut client = ZkClient::open(&pods.address(by)).await?;
        let create = Request::Create(CreateRequest {
            path: path.into(),
            data: None,
            acl: Some(vec![Acl::open()]),
            flags: 0,
        });
        let (_, reply) = client.call(&create).await?;
        let is_there = matches!(reply.outcome, Ok(_) | Err(ErrorCode::NodeExists));
        ensure!(is_there, "{reply:?}");
        Ok(Some(()))
    })
    .await?;
    until("the other pod to have it", SOON, async || {
        let mut other = ZkClient::open(&pods.address(1 - by)).await?;
        let exists = Request::Exists(ExistsRequest {
            path: path.into(),
            watch: false,
        });
        let (_, reply) = other.call(&exists).await?;
        Ok(matches!(reply.outcome, Ok(Response::Exists(_))).then_some(()))
    })
    .await
}

/// The write of one of two pods goes through the other one, which leads. Both are logged out when
/// the members restart.
pub(super) async fn pods_log_in_over_tls(lab: &Lab, server: Server) -> Result<()> {
    let mut cluster = Secured::start(lab, server)?;
    let shown = cluster.clients.issue("pod", &Subject::new("pod"))?;
    add_user(&cluster, &shown).await?;
    let options = PodOptions {
        pods: 2,
        secure: true,
        flags: flags(&cluster, &shown, "pods:secret"),
        ..PodOptions::default()
    };
    let mut pods = Pods::start(lab, &cluster.endpoints, options).await?;
    for by in 0..2 {
        write(&pods, by, &format!("/by-{by}")).await?;
    }
    for number in 0..3 {
        cluster.restart(lab, number)?;
    }
    for by in 0..2 {
        write(&pods, by, &format!("/after-{by}")).await?;
        ensure!(pods.process(by)?.is_running(), "pod {by} has ended");
    }
    wrong_password(lab, &cluster, &shown).await
}

/// The pod ends, and says why.
async fn wrong_password(lab: &Lab, cluster: &Secured, shown: &Issued) -> Result<()> {
    let options = PodOptions {
        secure: true,
        flags: flags(cluster, shown, "pods:wrong"),
        ..PodOptions::default()
    };
    let mut pods = Pods::prepare(&cluster.endpoints, options)?;
    pods.launch(lab, 0)?;
    let refused = pods.process(0)?;
    let status = refused.ended(SOON).await?;
    let log = refused.log_text();
    ensure!(!status.success(), "{log}");
    let said = log.lines().last().context("a message")?;
    ensure!(said.contains("invalid user ID or password"), "{said}");
    ensure!(!log.contains("pods:wrong"), "the password is in the log");
    Ok(())
}

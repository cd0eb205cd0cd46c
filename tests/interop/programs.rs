//! The clients' scenarios on each kind of cluster.

use anyhow::Result;
use synod_testkit::{Lab, Server, Topology};

use crate::clients::{self, Runnable};
use crate::clusters::Deployment;
use crate::on_all;
use crate::program::check;

on_all!(Whole => go_on_three, node_on_three, java_on_three);
on_all!(Small => python_on_one, go_with_certificates, node_with_certificates);
on_all!(Small => java_with_certificates, python_with_certificates);
on_all!(Small => go_with_users, python_with_users, node_with_users, java_with_users);
on_all!(Small => java_locks, python_over_json);

async fn go_on_three(lab: &Lab, server: Server) -> Result<()> {
    let scenarios = ["kv", "txn", "lease", "concurrency", "kill", "watch"];
    plain(lab, server, 3, &clients::go()?, &scenarios).await
}

async fn go_with_certificates(lab: &Lab, server: Server) -> Result<()> {
    secured(lab, server, &clients::go()?, &["tls"]).await
}

async fn go_with_users(lab: &Lab, server: Server) -> Result<()> {
    users(lab, server, &clients::go()?).await
}

/// Its client knows one address only.
async fn python_on_one(lab: &Lab, server: Server) -> Result<()> {
    let scenarios = ["kv", "txn", "lease", "lock", "maintenance", "watch"];
    plain(lab, server, 1, &clients::python()?, &scenarios).await
}

async fn python_with_users(lab: &Lab, server: Server) -> Result<()> {
    users(lab, server, &clients::python()?).await
}

async fn python_over_json(lab: &Lab, server: Server) -> Result<()> {
    plain(lab, server, 1, &clients::python()?, &["json"]).await
}

/// The gRPC client has no TLS; the one for JSON has.
async fn python_with_certificates(lab: &Lab, server: Server) -> Result<()> {
    secured(lab, server, &clients::python()?, &["json"]).await
}

async fn node_on_three(lab: &Lab, server: Server) -> Result<()> {
    let scenarios = ["kv", "txn", "lease", "lock", "election", "kill", "watch"];
    plain(lab, server, 3, &clients::node()?, &scenarios).await
}

async fn node_with_certificates(lab: &Lab, server: Server) -> Result<()> {
    secured(lab, server, &clients::node()?, &["tls"]).await
}

async fn node_with_users(lab: &Lab, server: Server) -> Result<()> {
    users(lab, server, &clients::node()?).await
}

async fn java_on_three(lab: &Lab, server: Server) -> Result<()> {
    let scenarios = ["kv", "txn", "lease", "kill", "watch"];
    plain(lab, server, 3, &clients::java()?, &scenarios).await
}

async fn java_locks(lab: &Lab, server: Server) -> Result<()> {
    plain(lab, server, 1, &clients::java()?, &["lock", "election"]).await
}

async fn java_with_certificates(lab: &Lab, server: Server) -> Result<()> {
    secured(lab, server, &clients::java()?, &["tls"]).await
}

async fn java_with_users(lab: &Lab, server: Server) -> Result<()> {
    users(lab, server, &clients::java()?).await
}

async fn plain(
    lab: &Lab,
    server: Server,
    members: usize,
    client: &Runnable,
    scenarios: &[&str],
) -> Result<()> {
    let mut deployment = Deployment::plain(lab, server, Topology::of(members)).await?;
    check(lab, &mut deployment, client, scenarios).await
}

async fn secured(lab: &Lab, server: Server, client: &Runnable, scenarios: &[&str]) -> Result<()> {
    let mut deployment = Deployment::secured(lab, server).await?;
    check(lab, &mut deployment, client, scenarios).await
}

/// With the smallest cost of password hashes, so that a check takes no second.
async fn users(lab: &Lab, server: Server, client: &Runnable) -> Result<()> {
    let topology = Topology::of(1).flag("--bcrypt-cost=4");
    let mut deployment = Deployment::plain(lab, server, topology).await?;
    check(lab, &mut deployment, client, &["auth"]).await
}

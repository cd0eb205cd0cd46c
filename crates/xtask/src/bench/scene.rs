//! A cluster whose members can be reached in every way that is measured.

use anyhow::{Context as _, Result};
use etcd_client::{Permission, PermissionType};
use synod_testkit::certificates::{Authority, Issued, Subject};
use synod_testkit::{Cluster, Lab, Port, Server, Topology};

use super::workloads::Access;

/// The user whose requests are measured, and the password of both users.
const USER: &str = "bench";
const PASSWORD: &str = "measured";
/// The keys that the user may read and write.
const PREFIX: &str = "bench/";

pub(super) struct Scene {
    pub(super) cluster: Cluster,
    authority: Authority,
    shown: Issued,
    tls_ports: Vec<Port>,
    has_users: bool,
}

impl Scene {
    /// Starts the members, each with a port without TLS and one with it.
    ///
    /// # Errors
    /// A member doesn't start, or the certificates can't be made.
    pub(super) async fn start(lab: &Lab, server: Server, topology: Topology) -> Result<Self> {
        let authority = Authority::new(&lab.folder().join("authority"))?;
        let shown = authority.issue("member", &Subject::new("member"))?;
        let mut cluster = Cluster::prepare(lab, server, topology, "c1").await?;
        let mut tls_ports = Vec::new();
        for index in 0..cluster.nodes().len() {
            let port = Port::reserve()?;
            let urls = format!("{},https://{}", cluster.endpoint(index), port.address());
            let flags = &mut cluster.node(index).spec.flags;
            flags.push(format!("--listen-client-urls={urls}"));
            flags.push(format!("--cert-file={}", shown.certificate.display()));
            flags.push(format!("--key-file={}", shown.key.display()));
            let authority = authority.ca_file();
            flags.push(format!("--trusted-ca-file={}", authority.display()));
            flags.push("--client-cert-auth".to_owned());
            tls_ports.push(port);
        }
        for index in 0..cluster.nodes().len() {
            cluster.launch(lab, index)?;
        }
        cluster.ready().await?;
        Ok(Self {
            cluster,
            authority,
            shown,
            tls_ports,
            has_users: false,
        })
    }

    /// The endpoints for this kind of access, and the arguments that `synod bench` needs for it.
    ///
    /// # Errors
    /// The users can't be made.
    pub(super) async fn open(&mut self, access: Access) -> Result<(Vec<String>, Vec<String>)> {
        let open = self.cluster.endpoints();
        Ok(match access {
            Access::Open => (open, Vec::new()),
            Access::Tls => {
                let url = |port: &Port| format!("https://{}", port.address());
                let endpoints = self.tls_ports.iter().map(url).collect();
                let files = [
                    ("--cacert", self.authority.ca_file()),
                    ("--cert", self.shown.certificate.clone()),
                    ("--key", self.shown.key.clone()),
                ];
                let flag = |(name, path): (&str, std::path::PathBuf)| {
                    [name.to_owned(), path.display().to_string()]
                };
                (endpoints, files.into_iter().flat_map(flag).collect())
            }
            Access::User => {
                if !self.has_users {
                    self.add_users().await.context("add users")?;
                    self.has_users = true;
                }
                (
                    open,
                    vec!["--user".to_owned(), format!("{USER}:{PASSWORD}")],
                )
            }
        })
    }

    async fn add_users(&self) -> Result<()> {
        let mut client = self.cluster.client(0).await?;
        for name in ["root", USER] {
            client.role_add(name).await?;
            client.user_add(name, PASSWORD, None).await?;
            client.user_grant_role(name, name).await?;
        }
        let keys = Permission::new(PermissionType::Readwrite, PREFIX).with_prefix();
        client.role_grant_permission(USER, keys).await?;
        client.auth_enable().await?;
        Ok(())
    }
}

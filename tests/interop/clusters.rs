//! Clusters as clients meet them: plain, or with certificates.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synod_testkit::certificates::{Authority, Issued, Subject};
use synod_testkit::{Cluster, Lab, Port, Server, Topology, http_get, until};

/// Timeout for a member to be healthy again.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);

/// A cluster and what its clients need.
pub(crate) struct Deployment {
    pub(crate) cluster: Cluster,
    pub(crate) endpoints: Vec<String>,
    pub(crate) certificates: Option<Certificates>,
    _ports: Vec<Port>,
}

/// The files of a secured cluster.
pub(crate) struct Certificates {
    authority: Authority,
    pub(crate) client: Issued,
    serial: u64,
}

impl Certificates {
    pub(crate) fn ca(&self) -> std::path::PathBuf {
        self.authority.ca_file()
    }

    /// The environment variables that tell a program of the files.
    pub(crate) fn envs(&self) -> Vec<(String, String)> {
        let pair = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        vec![
            pair("CA", &self.ca()),
            pair("CERT", &self.client.certificate),
            pair("KEY", &self.client.key),
        ]
    }

    fn renew(&mut self) -> Result<Issued> {
        self.serial += 1;
        let subject = Subject {
            serial: self.serial,
            ..Subject::new("server")
        };
        self.authority.issue("server", &subject)
    }
}

impl Deployment {
    /// A cluster without certificates.
    pub(crate) async fn plain(lab: &Lab, server: Server, topology: Topology) -> Result<Self> {
        Self::labelled(lab, server, topology, "c1").await
    }

    /// The same in its own directory, for a second cluster in one test.
    pub(crate) async fn labelled(
        lab: &Lab,
        server: Server,
        topology: Topology,
        label: &str,
    ) -> Result<Self> {
        let mut cluster = Cluster::prepare(lab, server, topology, label).await?;
        for index in 0..cluster.nodes().len() {
            cluster.launch(lab, index)?;
        }
        cluster.ready().await?;
        Ok(Self {
            endpoints: cluster.endpoints(),
            cluster,
            certificates: None,
            _ports: Vec::new(),
        })
    }

    /// One member that serves clients with certificates on one port, and this test on another.
    pub(crate) async fn secured(lab: &Lab, server: Server) -> Result<Self> {
        let authority = Authority::new(&lab.folder().join("certificates"))?;
        let client = authority.issue("client", &Subject::new("client"))?;
        let mut certificates = Certificates {
            authority,
            client,
            serial: 1,
        };
        let issued = certificates.renew()?;
        let mut cluster = Cluster::prepare(lab, server, Topology::of(1), "c1").await?;
        let port = Port::reserve()?;
        let plain = cluster.endpoint(0);
        let secured = format!("https://{}", port.address());
        let file = |name: &str, path: &Path| format!("--{name}={}", path.display());
        cluster.node(0).spec.flags.extend([
            format!("--listen-client-urls={plain},{secured}"),
            format!("--advertise-client-urls={secured}"),
            file("cert-file", &issued.certificate),
            file("key-file", &issued.key),
            file("trusted-ca-file", &certificates.ca()),
            "--client-cert-auth".to_owned(),
        ]);
        cluster.launch_and_wait(lab, 0).await?;
        Ok(Self {
            cluster,
            endpoints: vec![secured],
            certificates: Some(certificates),
            _ports: vec![port],
        })
    }

    /// Does what a program asks for.
    pub(crate) async fn serve(&mut self, lab: &Lab, request: &str) -> Result<()> {
        let (what, number) = request.rsplit_once(' ').unwrap_or((request, ""));
        let index = || number.parse().context("the number of a member");
        match what {
            "kill" => self.cluster.kill(index()?),
            "start" => self.start(lab, index()?).await,
            "restart" => {
                self.cluster.kill(index()?)?;
                self.start(lab, index()?).await
            }
            "renew" => {
                ensure!(number == "certificate", "the certificate is renewed");
                let certificates = self.certificates.as_mut().context("no certificates")?;
                certificates.renew().map(drop)
            }
            _ => anyhow::bail!("unknown request {request:?}: add it to Deployment::serve"),
        }
    }

    /// Starts a member and waits until its health page is good: that page needs no user.
    async fn start(&mut self, lab: &Lab, index: usize) -> Result<()> {
        self.cluster.launch(lab, index)?;
        let address = self.cluster.nodes()[index].spec.client.address();
        until("a healthy member", HEALTHY_WITHIN, async || {
            let answer = http_get(&address, "/health").await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
    }
}

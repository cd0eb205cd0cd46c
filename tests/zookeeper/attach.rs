//! Sessions that go on at another pod.

use anyhow::{Context, Result, ensure};
use synod_jute::{ConnectRequest, Request};
use synod_testkit::zookeeper::ZkClient;
use synod_testkit::{Cluster, PodOptions, Pods, Server, Share, Topology, run};

/// How many sessions move at once after they were opened.
const MOVES: usize = 25;

/// The second pod may not have heard of the session yet. It must not take it for expired.
#[test]
fn a_session_moves_as_soon_as_it_is_open() -> Result<()> {
    run(Share::Small, async |lab| {
        let cluster = Cluster::start(lab, Server::SYNOD, Topology::of(1)).await?;
        let options = PodOptions {
            pods: 2,
            ..PodOptions::default()
        };
        let pods = Pods::start(lab, &cluster.endpoints(), options).await?;
        for number in 0..MOVES {
            let (from, to) = (number % 2, (number + 1) % 2);
            let first = ZkClient::open(&pods.address(from)).await?;
            let session = first.session();
            let request = ConnectRequest {
                session_id: session.session_id,
                password: session.password.clone(),
                ..ZkClient::new_session()
            };
            let moved = ZkClient::connect(&pods.address(to), &request).await?;
            let mut moved = moved.context("the second pod closed the connection")?;
            ensure!(
                moved.session().session_id == session.session_id,
                "session {number} was refused"
            );
            moved.ok(&Request::Ping).await?;
        }
        Ok(())
    })
}

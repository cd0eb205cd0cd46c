//! Four-letter words, in the formats that monitoring tools read, and the metrics beside them.

use anyhow::{Context, Result, ensure};
use synod_jute::{Acl, CreateRequest, ExistsRequest, GetChildrenRequest, Request};
use synod_testkit::zookeeper::{ZkClient, four_letter_word};
use synod_testkit::{Server, Share, http_get, run};

use crate::pod;

fn create(path: &str, flags: i32) -> Request {
    Request::Create(CreateRequest {
        path: path.into(),
        data: None,
        acl: Some(vec![Acl::open()]),
        flags,
    })
}

fn session(client: &ZkClient) -> String {
    format!("0x{:x}", client.session().session_id)
}

#[test]
fn a_word_outside_the_whitelist_is_refused() -> Result<()> {
    run(Share::Small, async |lab| {
        let flags = vec!["--4lw-whitelist=srvr,ruok".to_owned()];
        let (pods, _cluster) = pod(lab, Server::SYNOD, flags).await?;
        let address = pods.address(0);
        ensure!(four_letter_word(&address, "ruok").await? == "imok");
        let refused = four_letter_word(&address, "dump").await?;
        ensure!(refused == "dump is not executed because it is not in the whitelist.\n");
        Ok(())
    })
}

#[test]
fn words_show_clients_sessions_and_watches() -> Result<()> {
    run(Share::Small, async |lab| {
        let (pods, _cluster) = pod(lab, Server::SYNOD, Vec::new()).await?;
        let address = pods.address(0);
        let mut client = ZkClient::open(&address).await?;
        client.ok(&create("/e", 1)).await?;
        let (path, watch) = ("/e".into(), true);
        let exists = Request::Exists(ExistsRequest { path, watch });
        client.ok(&exists).await?;
        let (path, watch) = ("/".into(), true);
        let children = Request::GetChildren(GetChildrenRequest { path, watch });
        client.ok(&children).await?;
        let id = session(&client);

        // Of the client's three requests and its connect request, all were answered.
        let cons = four_letter_word(&address, "cons").await?;
        let line = cons.lines().find(|line| line.contains(&id));
        let line = line.with_context(|| format!("no line of {id} in {cons}"))?;
        let expected = format!("[1](queued=0,recved=4,sent=4,sid={id},lop=GETC,est=");
        ensure!(line.starts_with(" /127.0.0.1:") && line.contains(&expected));
        ensure!(line.contains(",to=10000,lcxid=0x3,lzxid=0x"), "{line}");

        let dump = four_letter_word(&address, "dump").await?;
        ensure!(dump.contains(&format!("{id}\t10000ms\n")), "{dump}");
        let ephemerals = format!("Sessions with Ephemerals (1):\n{id}:\n\t/e\n");
        ensure!(dump.contains(&ephemerals), "{dump}");

        let wchs = four_letter_word(&address, "wchs").await?;
        ensure!(wchs == "1 connections watching 1 paths\nTotal watches:1\n");
        let wchc = four_letter_word(&address, "wchc").await?;
        ensure!(wchc == format!("{id}\n\t/e\n\n"), "{wchc:?}");
        let wchp = four_letter_word(&address, "wchp").await?;
        ensure!(wchp == format!("/e\n\t{id}\n\n"), "{wchp:?}");

        let stat = four_letter_word(&address, "stat").await?;
        for line in ["Mode: leader", "Node count: 5", "Clients:"] {
            ensure!(stat.lines().any(|found| found == line), "{line}: {stat}");
        }
        ensure!(stat.starts_with("Zookeeper version: 3.9."), "{stat}");

        let reset = four_letter_word(&address, "crst").await?;
        ensure!(reset == "Connection stats reset.\n");
        let cons = four_letter_word(&address, "cons").await?;
        ensure!(cons.contains(&format!("recved=0,sent=0,sid={id},lop=NA")));
        Ok(())
    })
}

#[test]
fn metrics_have_zookeepers_names() -> Result<()> {
    run(Share::Small, async |lab| {
        let (pods, _cluster) = pod(lab, Server::SYNOD, Vec::new()).await?;
        let address = pods.address(0);
        let mut client = ZkClient::open(&address).await?;
        client.ok(&create("/e", 1)).await?;
        client.ok(&Request::Ping).await?;
        let mntr = four_letter_word(&address, "mntr").await?;
        for line in [
            "zk_server_state\tleader",
            "zk_packets_received\t3",
            "zk_packets_sent\t3",
            "zk_znode_count\t5",
            "zk_ephemerals_count\t1",
            "zk_global_sessions\t1",
            "zk_outstanding_requests\t0",
            "zk_cnt_readlatency\t1",
            "zk_cnt_updatelatency\t2",
        ] {
            ensure!(mntr.lines().any(|found| found == line), "{line}: {mntr}");
        }
        let url = pods.metrics_url(0);
        let http = url.strip_prefix("http://").context("an HTTP URL")?;
        let metrics = http_get(http, "/metrics").await?;
        for line in [
            "packets_received 3",
            "ephemerals_count 1",
            "readlatency_count 1",
            "updatelatency_count 2",
        ] {
            let metrics = &metrics.body;
            ensure!(
                metrics.lines().any(|found| found == line),
                "{line}: {metrics}"
            );
        }

        let reset = four_letter_word(&address, "srst").await?;
        ensure!(reset == "Server stats reset.\n");
        let srvr = four_letter_word(&address, "srvr").await?;
        ensure!(srvr.contains("\nReceived: 0\nSent: 0\n"), "{srvr}");
        Ok(())
    })
}

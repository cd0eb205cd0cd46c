//! Four-letter words: short questions of operators.

use std::fmt::Write as _;

use synod_jute::FourLetterWord;

use crate::hub::Hub;

/// What ZooKeeper says while it has no quorum.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The answer to a word.
pub(super) fn answer(word: FourLetterWord, hub: &Hub) -> String {
    match word {
        FourLetterWord::Ruok => "imok".to_owned(),
        FourLetterWord::Isro => "rw".to_owned(),
        _ if !hub.is_serving() => NOT_SERVING.to_owned(),
        FourLetterWord::Srvr | FourLetterWord::Stat => summary(hub),
        FourLetterWord::Mntr => metrics(hub),
        other => format!("{} is not supported by Synod.\n", other.letters()),
    }
}

fn summary(hub: &Hub) -> String {
    let facts = hub.facts();
    format!(
        "Synod version: {}\nZxid: {}\nMode: follower\nConnections: {}\nNode count: {}\n",
        env!("CARGO_PKG_VERSION"),
        facts.last,
        facts.connections,
        facts.nodes,
    )
}

fn metrics(hub: &Hub) -> String {
    let facts = hub.facts();
    let mut text = String::new();
    for (name, value) in [
        ("zk_num_alive_connections", facts.connections),
        ("zk_znode_count", facts.nodes),
        ("zk_watch_count", facts.watches),
        ("zk_global_sessions", facts.sessions),
        ("zk_outstanding_requests", facts.waiting),
    ] {
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "{name}\t{value}");
    }
    text
}

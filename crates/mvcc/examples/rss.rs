use bytes::Bytes;
use std::sync::Arc;
use synod_engine::{DiskConfig, DiskEngine};
use synod_mvcc::*;
fn status(what: &str) {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    let f = |k: &str| {
        s.lines()
            .find(|l| l.starts_with(k))
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    };
    println!(
        "{what}: rss {} hwm {} anon {} file {}",
        f("VmRSS:"),
        f("VmHWM:"),
        f("RssAnon:"),
        f("RssFile:")
    );
}
fn main() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(DiskEngine::open(DiskConfig::new(dir.path().join("e"))).unwrap());
    let mut store = MvccStore::open(engine.clone(), MvccConfig::default()).unwrap();
    for n in 0..400 {
        let mut t = store.begin();
        t.put(&Put {
            key: Bytes::from(format!("k{n:03}")),
            value: Bytes::from(vec![7; 1 << 20]),
            ..Put::default()
        })
        .unwrap();
        t.finish();
        store.commit(Applied::default()).unwrap();
    }
    status("filled");
    std::thread::sleep(std::time::Duration::from_secs(5));
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    status("rested");
    let at = std::time::Instant::now();
    let mut large = store.begin_large().unwrap();
    for n in 0..8 {
        large
            .delete_range(&KeyRange::Span {
                start: Bytes::from(format!("k{:03}", n * 50)),
                end: Some(Bytes::from(format!("k{:03}", n * 50 + 50))),
            })
            .unwrap();
        status("part");
        use synod_engine::Engine as _;
        println!("{:?}", engine.stats());
    }
    large.finish().unwrap();
    status("deleted");
    store.commit(Applied::default()).unwrap();
    status("committed");
    println!("{:?}", at.elapsed());
    std::thread::sleep(std::time::Duration::from_secs(5));
    status("rested");
}

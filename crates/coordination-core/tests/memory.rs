//! What a million nodes and a million watches take in memory, and what a read takes in time. Run it
//! alone, with optimization:
//! `cargo test --release -p synod-coordination-core --test memory -- --ignored --nocapture`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::hint::black_box;
use std::time::Duration;

use synod_coordination_core::{
    Acl, Batch, Command, ConnectionId, CreateMode, Kind, Loader, Machine, Op, PageId, Password,
    SessionId, WatchKind, Watches,
};

const NODES: u32 = 1_000_000;
const BATCH: u32 = 1000;
const MAX_MIB: u64 = 400;

/// The memory of this process in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// The time that this thread has had a processor: others may use the machine as well.
fn cpu_time() -> Duration {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(status.split_whitespace().next().unwrap().parse().unwrap())
}

fn path(n: u32) -> String {
    format!("/app/shard-{}/group-{}/node-{n:07}", n % 10, n / 10 % 100)
}

fn create(path: String) -> Kind {
    Kind::Write(Op::Create {
        path,
        data: Some(vec![b'x'; 100]),
        acl: Acl::open(),
        mode: CreateMode::Persistent,
        ttl_ms: -1,
    })
}

fn batch(machine: &Machine, kinds: impl Iterator<Item = Kind>) -> Batch {
    let command = |kind| Command {
        origin: None,
        session: SessionId::new(1),
        caller: Vec::new(),
        kind,
    };
    Batch {
        first: machine.last_zxid().plus(1),
        time_ms: 1,
        commands: kinds.map(command).collect(),
    }
}

fn per_item(time: Duration, items: u32) -> Duration {
    time / items
}

fn filled() -> Machine {
    let mut machine = Machine::new(12345);
    let session = Kind::CreateSession {
        timeout_ms: 1,
        password: Password::new([0; 16]),
    };
    let groups = (0..1000).flat_map(|n| {
        let path = path(n);
        let group = path.rsplit_once('/').unwrap().0.to_owned();
        let shard = group.rsplit_once('/').unwrap().0.to_owned();
        [create("/app".to_owned()), create(shard), create(group)]
    });
    let first = batch(&machine, std::iter::once(session).chain(groups));
    machine.apply_batch(&first).unwrap();
    let mut applying = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    for start in (0..NODES).step_by(BATCH as usize) {
        let batch = batch(&machine, (start..start + BATCH).map(|n| create(path(n))));
        let start = cpu_time();
        let applied = machine.apply_batch(&batch).unwrap();
        let took = cpu_time() - start;
        applying += took;
        slowest = slowest.max(took);
        assert!(applied.iter().all(|applied| applied.reply.is_ok()));
    }
    println!(
        "create: {:?} each; slowest batch of {BATCH}: {slowest:?}",
        per_item(applying, NODES)
    );
    machine
}

fn read(machine: &Machine) {
    const READS: u32 = 1_000_000;
    let paths: Vec<String> = (0..READS)
        .map(|n| path(n.wrapping_mul(2_654_435_761) % NODES))
        .collect();
    let start = cpu_time();
    for path in &paths {
        black_box(machine.get(path, &[]).unwrap());
    }
    println!(
        "get of a random one of all nodes: {:?}",
        per_item(cpu_time() - start, READS)
    );
    let hot: Vec<String> = (0..1000).map(path).collect();
    let start = cpu_time();
    for path in hot.iter().cycle().take(READS as usize) {
        black_box(machine.get(path, &[]).unwrap());
    }
    let each = per_item(cpu_time() - start, READS);
    println!("get of one of a thousand nodes: {each:?}");
    assert!(cfg!(debug_assertions) || each < Duration::from_micros(1));
}

fn checkpoint(machine: &mut Machine) {
    let start = cpu_time();
    machine.start_checkpoint(None);
    let pages: Vec<_> = std::iter::from_fn(|| machine.next_page()).collect();
    let bytes: usize = pages
        .iter()
        .flat_map(|page| &page.parts)
        .map(Vec::len)
        .sum();
    println!(
        "checkpoint: {} pages, {} MiB, {:?}",
        pages.len(),
        bytes >> 20,
        (cpu_time() - start)
    );

    let since = machine.last_zxid();
    let kind = create("/app/shard-0/group-0/new".to_owned());
    let change = batch(machine, std::iter::once(kind));
    machine.apply_batch(&change).unwrap();
    machine.start_checkpoint(Some(since));
    let changed = std::iter::from_fn(|| machine.next_page()).count();
    println!("pages after one more create: {changed}");
    assert!(changed <= 3, "the node's, its parent's, and the meta page");

    let start = cpu_time();
    machine.state_hash();
    println!("state hash: {:?}", (cpu_time() - start));
    let start = cpu_time();
    machine.state_hash();
    println!("state hash again: {:?}", (cpu_time() - start));

    let start = cpu_time();
    let (meta, others) = pages.split_last().unwrap();
    assert_eq!(meta.page, PageId::Meta);
    let mut loader = Loader::new(1, &meta.parts).unwrap();
    for page in others {
        loader.add(page.page, &page.parts).unwrap();
    }
    let loaded = loader.finish().unwrap();
    println!("load: {:?}", (cpu_time() - start));
    assert_eq!(loaded.node_count() + 1, machine.node_count());
}

fn watched() -> Watches {
    let before = resident_mib();
    let mut watches = Watches::new(2_000_000, 1);
    let start = cpu_time();
    for n in 0..NODES {
        watches
            .add(ConnectionId::new(n % 1000), &path(n), WatchKind::Data)
            .unwrap();
    }
    println!(
        "a million watches on a million paths: {} MiB, {:?} each",
        resident_mib() - before,
        per_item(cpu_time() - start, NODES)
    );
    watches
}

#[test]
#[ignore = "takes a GiB of memory, and measures"]
fn a_million_nodes_fit() {
    // Kept, so that the nodes don't take the memory of the watches.
    let watches = watched();
    let before = resident_mib();
    let mut machine = filled();
    let mib = resident_mib() - before;
    println!("{} nodes: {mib} MiB", machine.node_count());
    assert!(mib < MAX_MIB, "{mib} MiB for a million nodes");
    read(&machine);
    checkpoint(&mut machine);
    drop(watches);
}

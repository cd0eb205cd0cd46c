//! Measures processor time per entry, at batches of 1 and 64. `cargo xtask bench core` runs this
//! and writes docs/benchmarks.md.

use std::{hint::black_box, time::Duration};

use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use rustix::time::{ClockId, clock_gettime};
use synod_consensus_core::Algorithm;
use synod_core_bench::{Group, Load, OmniPaxosGroup, RaftRsGroup, SynodGroup};

/// The processor time of this thread. Other load on the machine affects the caches but is not
/// counted.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(now).expect("processor time is not negative")
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn measure<G: Group>(criterion: &mut Criterion<CpuTime>, name: &str, group: impl Fn(u64) -> G) {
    for batch in [1, 64] {
        let mut benchmark = criterion.benchmark_group(format!("batch-{batch}"));
        benchmark.throughput(Throughput::Elements(batch));
        let mut load = Load::new(group(batch));
        benchmark.bench_function(name, |bencher| {
            bencher.iter(|| load.run(black_box(batch)));
        });
        benchmark.finish();
    }
}

fn cores(criterion: &mut Criterion<CpuTime>) {
    for algorithm in Algorithm::ALL {
        let name = format!("synod-{algorithm}");
        measure(criterion, &name, |_| SynodGroup::new(algorithm));
    }
    measure(criterion, "raft-rs", |_| RaftRsGroup::new());
    measure(criterion, "omnipaxos", OmniPaxosGroup::new);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    targets = cores
}
criterion_main!(benches);

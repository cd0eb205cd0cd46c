//! Runs seeds from the command line: `try raft everything 0 100 [text]`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]
use synod_simulation::{Options, SoakOptions, TraceFormat, run_with, shrink, soak};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let algorithm = args[1].parse().unwrap();
    let first: u64 = args[3].parse().unwrap();
    let count: u64 = args[4].parse().unwrap();
    if let Some(mode) = args.get(5) {
        let options = Options {
            trace: Some(TraceFormat::Text),
            ..Options::new(algorithm, args[2].parse().unwrap(), first)
        };
        if mode == "shrink" {
            if let Some(shrunk) = shrink(&options, 3000, TraceFormat::Text) {
                for line in &shrunk.failure.trace {
                    println!("{line}");
                }
                println!("{} {:?} {}", shrunk.failure, shrunk.weight, shrunk.runs);
            }
            return;
        }
        match run_with(&options) {
            Ok(report) => {
                for line in report.trace {
                    println!("{line}");
                }
                println!("ok {}", report.counts);
            }
            Err(failure) => {
                for line in &failure.trace {
                    println!("{line}");
                }
                println!("{failure}\n{}", failure.counts);
            }
        }
        return;
    }
    let flavours = if args[2] == "all" {
        synod_simulation::Flavour::ALL.to_vec()
    } else {
        vec![args[2].parse().unwrap()]
    };
    let options = SoakOptions {
        algorithms: vec![algorithm],
        flavours,
        first_seed: first,
        max_runs: count,
        jobs: 1,
    };
    let outcome = soak(&options, &|| false);
    println!("{} runs, {}", outcome.runs, outcome.counts);
    for failure in outcome.failures {
        println!("{failure}");
    }
}

//! The parts that all services share: command line and environment, the data directory, ports,
//! health and metrics over HTTP, memory for responses, long reads, backups, and the life of the
//! process.
//!
//! It guarantees that a wrong flag is named together with what is valid, that no two processes use
//! one data directory, that durable files survive a power loss, and that every service shuts down
//! in the same order. It knows nothing about what a service does.
//!
//! ```text
//! main.rs    run            -> config (flags, variables) -> telemetry -> start -> signal -> shutdown
//! server.rs  listen, front  -> ports, serving threads, tasks, drain
//!            data_dir       -> lock, identity, creation; generations, durable: its files
//! http.rs    health         -> /livez, /readyz, /metrics; log_metrics, process_metrics, scraped
//! service.rs budget         -> memory for responses; scans, large_read: long reads on threads of their own
//!            backup         -> the file of a backup; retention, sweeper: old data goes in the background
//! error.rs   status         -> gRPC status of a failed call, and whether it may have taken effect
//! ```
//! A service with a port and a data directory that does nothing else:
//!
//! ```no_run
//! use std::path::PathBuf;
//! use std::process::ExitCode;
//!
//! use synod_rpc::{Server, ServerConfig};
//! use synod_service::config::{CommandLine, ConfigError, Flag, Launch, LogFormat, value};
//! use synod_service::{DataDir, Ending, Found, Front, Layout, Service, listen};
//!
//! // config.rs
//! struct Config {
//!     data_dir: PathBuf,
//!     listen_urls: Vec<String>,
//!     log: LogFormat,
//! }
//!
//! const FLAGS: CommandLine = CommandLine {
//!     flags: &[
//!         Flag::value("data-dir", "where the data is kept; SYNOD_DATA_DIR"),
//!         Flag::value("listen-urls", "where clients connect"),
//!         Flag::value("log-level", "debug, info, warn or error"),
//!         Flag::switch("help", "print this"),
//!     ],
//!     ignored: None,
//! };
//!
//! impl Config {
//!     fn set(&mut self, flag: &str, text: &str) -> Result<(), ConfigError> {
//!         let bad = |expected: String| ConfigError::invalid(flag, text, &expected);
//!         match flag {
//!             "data-dir" => self.data_dir = PathBuf::from(text),
//!             "listen-urls" => self.listen_urls = value::urls(text).map_err(bad)?,
//!             "log-level" => self.log.level = value::log_level(text).map_err(bad)?,
//!             _ => debug_assert!(false, "flag {flag} is not read"),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! // server.rs
//! struct Echo {
//!     front: Front,
//!     _data_dir: DataDir,
//! }
//!
//! const LAYOUT: Layout = Layout { format: 1, foreign: &[] };
//!
//! impl Service for Echo {
//!     const NAME: &'static str = "synod-echo";
//!     type Config = Config;
//!     type StartError = Box<dyn std::error::Error + Send + Sync>;
//!
//!     fn configure(
//!         args: &[String],
//!         env: &dyn Fn(&str) -> Option<String>,
//!     ) -> Result<Launch<Config>, ConfigError> {
//!         let given = FLAGS.read(args, env)?;
//!         if given.has("help") {
//!             return Ok(Launch::Print(FLAGS.list(|_| true)));
//!         }
//!         let mut config = Config {
//!             data_dir: PathBuf::from("echo"),
//!             listen_urls: vec!["http://localhost:2390".to_owned()],
//!             log: LogFormat::default(),
//!         };
//!         given.apply(|flag, text| config.set(flag, text))?;
//!         Ok(Launch::Run(Box::new(config)))
//!     }
//!
//!     fn log_format(config: &Config) -> &LogFormat {
//!         &config.log
//!     }
//!
//!     fn instance(_: &Config) -> &str {
//!         "echo-1"
//!     }
//!
//!     async fn start(config: Config) -> Result<Self, Self::StartError> {
//!         let ports = listen::bind(&config.listen_urls)?;
//!         let (data_dir, found) = DataDir::open::<()>(&config.data_dir, None, &LAYOUT)?;
//!         if let Found::Empty = found {
//!             data_dir.begin_creation()?;
//!             // The first state is made here, then `finish_creation`.
//!         }
//!         let mut front = Front::start("echo-serve", 0)?;
//!         let server = Server::new(ServerConfig::default()).health(front.health());
//!         for port in ports {
//!             front.serve(&server, port)?;
//!         }
//!         Ok(Self { front, _data_dir: data_dir })
//!     }
//!
//!     async fn ended(&self) -> Ending {
//!         std::future::pending().await
//!     }
//!
//!     async fn shutdown(mut self) {
//!         self.front.refuse().await;
//!         self.front.end_tasks();
//!         self.front.drain().await;
//!         self.front.stop().await;
//!     }
//! }
//!
//! // main.rs
//! fn main() -> ExitCode {
//!     synod_service::main::<Echo>()
//! }
//! ```

mod backup;
mod budget;
pub mod config;
mod data_dir;
mod deadline;
mod durable;
mod front;
mod generations;
pub mod health;
mod large_read;
pub mod listen;
mod log_metrics;
mod process_metrics;
mod retention;
mod run;
mod scans;
pub mod scraped;
mod status;
mod sweeper;

pub use backup::{
    Backup, BackupContent, BackupError, BackupFormat, BackupId, BackupWriter, ForeignFile,
};
pub use budget::{BudgetError, BudgetMetrics, Place, ResponseBudget};
pub use data_dir::{DataDir, DataDirError, Foreign, Found, Identity, Layout, Meta, Origin};
pub use deadline::{MalformedTimeout, asked_timeout};
pub use front::Front;
pub use generations::Generations;
pub use large_read::{LargeRead, LargeReads};
pub use log_metrics::{LogMetricNames, register_log};
pub use process_metrics::{ProcessMetrics, clamp};
pub use retention::{Retention, RetentionPlan};
pub use run::{Ending, RunError, Service, main};
pub use scans::{ScanError, ScanPool};
pub use status::{Advice, status};
pub use sweeper::{SweepSignal, SweepStep, Sweeper};

/// This release of Synod.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

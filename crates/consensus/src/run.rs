//! A node as a process: configuration, telemetry, signals.

use synod_runtime::telemetry::{self, LogFormat as Shape, TelemetryConfig, TelemetryError};
use synod_runtime::{env, shutdown};

use crate::config::{Config, ConfigError, Launch};
use crate::server::{Ended, Node, StartError};
use crate::version;

/// Libraries that tell more than operators want to know.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

/// Why a process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Flags or environment.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The environment is not text.
    #[error(transparent)]
    Environment(#[from] env::EnvError),
    /// Logs or traces.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The node.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime or the signal handlers.
    #[error("cannot use the operating system's event queue: {0}")]
    System(#[from] std::io::Error),
    /// It ran, and had to stop.
    #[error("the node had to stop: {0}")]
    Failed(String),
}

/// Runs a node until it is told to stop. `args` come without the program's name. Returns what is to
/// be printed, for `--version` and `--help`.
///
/// # Errors
/// [`RunError`] says what to do.
pub fn run(args: &[String]) -> Result<Option<String>, RunError> {
    // A variable that is no text is an error only if it is one of ours.
    let garbled = std::cell::RefCell::new(None);
    let read = |name: &str| {
        env::var(name).unwrap_or_else(|error| {
            garbled.borrow_mut().get_or_insert(error);
            None
        })
    };
    let config = match Config::parse(args, &read)? {
        Launch::Print(text) => return Ok(Some(text)),
        Launch::Run(config) => *config,
    };
    let otlp_endpoint = read("OTEL_EXPORTER_OTLP_ENDPOINT");
    if let Some(error) = garbled.into_inner() {
        return Err(error.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let _telemetry = telemetry::init(&telemetry_config(&config, otlp_endpoint))?;
        tracing::info!(version = version::SYNOD_VERSION, etcd_api = version::ETCD_VERSION, "starting");
        let node = Node::start(config).await?;
        let ended = tokio::select! {
            biased; // a node that failed must not wait for a signal
            ended = node.ended() => Some(ended),
            signal = shutdown::signal() => {
                tracing::info!(signal = %signal?, "asked to stop");
                None
            }
        };
        match ended {
            None => node.shutdown().await,
            Some(Ended::Removed) => {
                tracing::warn!("this member was removed from the cluster: stopping; its data directory can be deleted");
                node.shutdown().await;
            }
            Some(Ended::Failed(fault)) => {
                tracing::error!(%fault, "the replica failed: stopping");
                return Err(RunError::Failed(with_advice(&fault.to_string())));
            }
        }
        Ok(None)
    })
}

/// Adds what to do to a fault that an operator can mend.
fn with_advice(fault: &str) -> String {
    // The log's own errors say it already.
    if fault.contains("No space left on device") && !fault.contains("free some space") {
        return format!("{fault}; free some space and start again: what was acknowledged is safe");
    }
    fault.to_owned()
}

fn telemetry_config(config: &Config, otlp_endpoint: Option<String>) -> TelemetryConfig {
    use std::io::IsTerminal as _;
    let json = config.log.json.unwrap_or(!std::io::stderr().is_terminal());
    TelemetryConfig {
        format: if json { Shape::Json } else { Shape::Text },
        filter: format!("{},{QUIET}", config.log.level),
        otlp_endpoint,
        service_name: "synod-consensus".to_owned(),
        service_instance: config.name.clone(),
        ..TelemetryConfig::default()
    }
}

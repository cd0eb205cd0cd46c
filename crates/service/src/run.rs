//! A service as a process: configuration, telemetry, signals, exit codes.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use synod_runtime::telemetry::{self, LogFormat as Shape, TelemetryConfig, TelemetryError};
use synod_runtime::{env, memory, shutdown};

use crate::config::{ConfigError, Launch, LogFormat};

/// Libraries that log too much at the level `info`.
const QUIET: &str = "fjall=warn,lsm_tree=warn";

/// A service that [`main`](fn@main) runs. It starts on a current-thread runtime.
pub trait Service: Sized {
    /// The program's name, in messages and traces: `synod-storage`.
    const NAME: &'static str;

    /// The configuration; immutable once the service runs.
    type Config;
    /// Why it did not start.
    type StartError: Into<Box<dyn Error + Send + Sync>>;

    /// Reads the command line (without the program's name) and the environment.
    ///
    /// # Errors
    /// Says which flag or variable is wrong, and what would be right.
    fn configure(
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Launch<Self::Config>, ConfigError>;

    /// Level and format of the log.
    fn log_format(config: &Self::Config) -> &LogFormat;

    /// This node's name in traces.
    fn instance(config: &Self::Config) -> &str;

    /// Starts the service, and returns once it serves.
    ///
    /// # Errors
    /// Says why it can't start, and what to do.
    fn start(config: Self::Config) -> impl Future<Output = Result<Self, Self::StartError>>;

    /// Resolves when the service ends by itself.
    ///
    /// # Cancel safety
    /// Dropping the future must be safe.
    fn ended(&self) -> impl Future<Output = Ending>;

    /// Shuts down in the order of [`Front`](crate::Front).
    fn shutdown(self) -> impl Future<Output = ()>;
}

/// Why a service ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its work is done: it shuts down, and the process succeeds.
    Finished,
    /// It failed for this reason: the process ends at once.
    Failed(String),
}

/// Why a process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A wrong flag or variable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An argument is not UTF-8.
    #[error("the argument {0} is not UTF-8: write it in UTF-8")]
    NotText(String),
    /// A variable of ours is not UTF-8.
    #[error(transparent)]
    Environment(#[from] env::EnvError),
    /// Logs or traces can't be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The service did not start.
    #[error("{0}")]
    Start(Box<dyn Error + Send + Sync>),
    /// The runtime or a signal handler can't be set up.
    #[error(
        "cannot use the operating system's event queue: {0}; raise the limit on open files (ulimit -n)"
    )]
    System(#[from] std::io::Error),
    /// The service ran and failed.
    #[error("the node stopped because of an error: {0}")]
    Failed(String),
}

/// Runs a service as a process. The exit code is 0 when the process was told to stop or its work is
/// done, 2 for a mistake in the command line, and 1 for any other error. An error is one line on
/// standard error.
#[must_use]
pub fn main<S: Service>() -> ExitCode {
    // If the kernel refuses, the process only uses more memory.
    let _refused = memory::disable_huge_pages();
    let (text, code) = match arguments().and_then(|args| run::<S>(&args)) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(text)) => {
            // Whoever reads the output may have closed it.
            let _closed = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error @ (RunError::Config(_) | RunError::NotText(_))) => (error.to_string(), 2),
        Err(error) => (error.to_string(), 1),
    };
    let _closed = writeln!(std::io::stderr(), "{}: {text}", S::NAME);
    ExitCode::from(code)
}

fn arguments() -> Result<Vec<String>, RunError> {
    let args = std::env::args_os().skip(1).map(|arg| {
        arg.into_string()
            .map_err(|arg| RunError::NotText(arg.display().to_string()))
    });
    args.collect()
}

/// Runs until the process is told to stop. For `--version` and `--help` returns the text to print.
fn run<S: Service>(args: &[String]) -> Result<Option<String>, RunError> {
    // A variable that is not UTF-8 is an error only if it is one of ours.
    let garbled = std::cell::RefCell::new(None);
    let read = |name: &str| {
        env::var(name).unwrap_or_else(|error| {
            garbled.borrow_mut().get_or_insert(error);
            None
        })
    };
    let config = match S::configure(args, &read)? {
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
        let _telemetry = telemetry::init(&telemetry_config::<S>(&config, otlp_endpoint))?;
        let service = S::start(config)
            .await
            .map_err(|error| RunError::Start(error.into()))?;
        let ended = tokio::select! {
            biased; // a service that failed must not wait for a signal
            ended = service.ended() => ended,
            signal = shutdown::signal() => {
                tracing::info!(signal = %signal?, "asked to stop");
                Ending::Finished
            }
        };
        match ended {
            Ending::Finished => service.shutdown().await,
            Ending::Failed(fault) => return Err(RunError::Failed(fault)),
        }
        Ok(None)
    })
}

fn telemetry_config<S: Service>(
    config: &S::Config,
    otlp_endpoint: Option<String>,
) -> TelemetryConfig {
    use std::io::IsTerminal as _;
    let log = S::log_format(config);
    let json = log.json.unwrap_or(!std::io::stderr().is_terminal());
    TelemetryConfig {
        format: if json { Shape::Json } else { Shape::Text },
        filter: format!("{},{QUIET}", log.level),
        otlp_endpoint,
        service_name: S::NAME.to_owned(),
        service_instance: S::instance(config).to_owned(),
        ..TelemetryConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::config::{CommandLine, Flag};

    /// A service that ends by itself, in the way that its command line says.
    struct Job(Ending);

    struct Config {
        ending: Ending,
        log: LogFormat,
    }

    const LINE: CommandLine = CommandLine {
        flags: &[
            Flag::value("fail", "the fault to end with"),
            Flag::switch("help", ""),
        ],
        ignored: None,
    };

    impl Service for Job {
        const NAME: &'static str = "synod-job";

        type Config = Config;
        type StartError = Infallible;

        fn configure(
            args: &[String],
            env: &dyn Fn(&str) -> Option<String>,
        ) -> Result<Launch<Config>, ConfigError> {
            let given = LINE.read(args, env)?;
            if given.has("help") {
                return Ok(Launch::Print(LINE.list(|_| true)));
            }
            let fault = given.last("fail").map(str::to_owned);
            Ok(Launch::Run(Box::new(Config {
                ending: fault.map_or(Ending::Finished, Ending::Failed),
                log: LogFormat::default(),
            })))
        }

        fn log_format(config: &Config) -> &LogFormat {
            &config.log
        }

        fn instance(_: &Config) -> &str {
            "job-1"
        }

        async fn start(config: Config) -> Result<Self, Infallible> {
            Ok(Self(config.ending))
        }

        async fn ended(&self) -> Ending {
            self.0.clone()
        }

        async fn shutdown(self) {}
    }

    fn job(args: &[&str]) -> Result<Option<String>, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        run::<Job>(&args).map_err(|error| error.to_string())
    }

    /// One test for all, since telemetry can be set up once in a process.
    #[test]
    fn a_process_prints_or_ends_as_its_service_does() {
        let help = "  --fail VALUE\n        the fault to end with\n  --help\n";
        assert_eq!(job(&["--help"]), Ok(Some(help.to_owned())));
        let unknown = job(&["--fial"]).unwrap_err();
        assert_eq!(unknown, "unknown flag --fial; did you mean --fail?");
        let fault = job(&["--fail", "it broke"]).unwrap_err();
        assert_eq!(fault, "the node stopped because of an error: it broke");
        let again = job(&[]).unwrap_err();
        assert_eq!(again, "telemetry is already set up in this process");
    }

    #[test]
    fn traces_carry_the_services_name_and_the_nodes() {
        let config = Config {
            ending: Ending::Finished,
            log: LogFormat {
                level: "debug".to_owned(),
                json: Some(true),
            },
        };
        let telemetry = telemetry_config::<Job>(&config, None);
        assert_eq!(telemetry.service_name, "synod-job");
        assert_eq!(telemetry.service_instance, "job-1");
        assert_eq!(telemetry.filter, "debug,fjall=warn,lsm_tree=warn");
        assert_eq!(telemetry.format, Shape::Json);
    }
}

//! A pod as a process.

use synod_service::config::{ConfigError, Launch, LogFormat};
use synod_service::{Ending, Service, VERSION};

use crate::config::Config;
use crate::server::{Pod, StartError};

impl Service for Pod {
    const NAME: &'static str = "synod-coordination";

    type Config = Config;
    type StartError = StartError;

    fn configure(
        args: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Launch<Config>, ConfigError> {
        Config::parse(args, env)
    }

    fn log_format(config: &Config) -> &LogFormat {
        &config.log
    }

    fn instance(config: &Config) -> &str {
        &config.name
    }

    async fn start(config: Config) -> Result<Self, StartError> {
        tracing::info!(version = VERSION, "starting");
        Self::start(config).await
    }

    async fn ended(&self) -> Ending {
        self.ended().await;
        Ending::Failed("a task of the log has ended: see the log above".to_owned())
    }

    async fn shutdown(self) {
        self.shutdown().await;
    }
}

//! A node as a process.

use synod_service::config::{ConfigError, Launch, LogFormat};
use synod_service::{Ending, Service, VERSION};

use crate::config::Config;
use crate::server::{Ended, Node, StartError};
use crate::version::ETCD_VERSION;

impl Service for Node {
    const NAME: &'static str = "synod-consensus";

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
        tracing::info!(version = VERSION, etcd_api = ETCD_VERSION, "starting");
        Self::start(config).await
    }

    async fn ended(&self) -> Ending {
        match self.ended().await {
            Ended::Removed => {
                tracing::warn!(
                    "this member was removed from the cluster: stopping; its data directory can be deleted"
                );
                Ending::Finished
            }
            Ended::Failed(fault) => {
                tracing::error!(%fault, "the replica failed: stopping");
                Ending::Failed(fault.to_string())
            }
        }
    }

    async fn shutdown(self) {
        self.shutdown().await;
    }
}

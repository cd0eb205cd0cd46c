//! What serves the clients of a service: threads, ports and background tasks, and the order in
//! which they stop.

use std::num::NonZeroUsize;
use std::time::Duration;

use synod_rpc::{Health, Listener, Running, Server, StartError};
use synod_runtime::executor::{Executor, ExecutorError};
use synod_runtime::shutdown::Shutdown;

/// How long calls in flight get to finish when the service stops, and after them the tasks.
const DRAIN: Duration = Duration::from_secs(5);
/// The most serving threads, unless their number is configured.
const MAX_THREADS: usize = 8;

/// Serving threads, servers and background tasks. To stop:
///
/// 1. [`Front::refuse`]: health checks fail, so that clients go elsewhere.
/// 2. The service hands over what it leads.
/// 3. [`Front::end_tasks`]. The service also ends the streams that would never end by themselves.
/// 4. [`Front::drain`]: calls in flight finish.
/// 5. The service stops what calls need.
/// 6. [`Front::stop`]: the threads end.
/// 7. The service flushes and closes its data.
#[derive(Debug)]
pub struct Front {
    executor: Executor,
    health: Health,
    servers: Vec<Running>,
    stop: Shutdown,
}

impl Front {
    /// Starts the threads `name-0`, `name-1` and so on, each with a runtime of its own. Zero
    /// `threads` means one for each processor, up to 8.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(name: &str, threads: usize) -> Result<Self, ExecutorError> {
        Ok(Self {
            executor: Executor::start(name, number(threads))?,
            health: Health::new(),
            servers: Vec::new(),
            stop: Shutdown::new(),
        })
    }

    /// The answers to gRPC's health checks.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Triggered by [`Front::end_tasks`].
    #[must_use]
    pub fn ending(&self) -> &Shutdown {
        &self.stop
    }

    /// Runs a task that ends once [`Front::ending`] is triggered. [`Front::stop`] waits for it.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.executor.spawn(name, task));
    }

    /// The threads, for servers of protocols other than gRPC and HTTP.
    #[must_use]
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Serves on a socket. Returns its URL.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn serve(&mut self, server: &Server, listener: Listener) -> Result<String, StartError> {
        let running = server.start(listener, &self.executor)?;
        let url = running.url();
        self.servers.push(running);
        Ok(url)
    }

    /// Makes gRPC's health checks answer "not serving".
    pub async fn refuse(&self) {
        self.health.set("", false).await;
    }

    /// Tells the tasks to end. Does not wait for them.
    pub fn end_tasks(&self) {
        self.stop.trigger();
    }

    /// Closes the ports, and waits up to 5 s for calls in flight.
    pub async fn drain(&mut self) {
        let drains = self.servers.drain(..).map(|server| server.drain(DRAIN));
        futures::future::join_all(drains).await;
    }

    /// Waits up to 5 s for the tasks, and ends the threads.
    pub async fn stop(self) {
        self.executor.stop(DRAIN).await;
    }
}

fn number(configured: usize) -> NonZeroUsize {
    let automatic = std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(MAX_THREADS);
    NonZeroUsize::new(configured)
        .or(NonZeroUsize::new(automatic))
        .unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use synod_rpc::ServerConfig;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn ports_close_before_tasks_are_waited_for() {
        let mut front = Front::start("test-serve", 1).unwrap();
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let server = Server::new(ServerConfig::default()).health(front.health());
        let address = listener.bound_to().tcp().unwrap();
        front.serve(&server, listener).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, flag) = (front.ending().clone(), Arc::clone(&ended));
        front.spawn("beside", async move {
            stop.triggered().await;
            flag.store(true, Ordering::Relaxed);
        });
        assert!(TcpStream::connect(address).await.is_ok());
        front.refuse().await;
        front.end_tasks();
        front.drain().await;
        assert!(TcpStream::connect(address).await.is_err());
        front.stop().await;
        assert!(ended.load(Ordering::Relaxed));
    }

    #[test]
    fn threads_are_as_configured_or_few() {
        assert_eq!(number(3).get(), 3);
        assert!((1..=MAX_THREADS).contains(&number(0).get()));
    }
}

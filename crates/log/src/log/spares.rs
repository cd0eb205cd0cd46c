//! The thread that prepares segments.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use synod_runtime::task;

use crate::{
    core::{LogCore, SpareRequest, make_spare},
    disk::Disk,
};

/// A thread that prepares files ahead of their use.
pub(super) struct SpareMaker {
    /// None once the thread is to end.
    requests: Option<Sender<SpareRequest>>,
    made: Receiver<(SpareRequest, io::Result<()>)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
    /// After a failure the log makes its files itself, and reports what goes wrong.
    given_up: bool,
}

impl SpareMaker {
    pub(super) fn start(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let (requests, work) = bounded::<SpareRequest>(1);
        let (results, made) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = task::spawn_thread("synod-log-spare", move || {
            for request in work {
                let result = make_spare(disk.as_ref(), &request, &|| stopped.load(Relaxed));
                if results.send((request, result)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            requests: Some(requests),
            made,
            stop,
            thread: Some(thread),
            busy: false,
            given_up: false,
        })
    }

    /// Hands over what was made, and asks for more where the log wants it.
    pub(super) fn turn(&mut self, core: &mut LogCore) {
        if self.busy {
            let Ok((request, result)) = self.made.try_recv() else {
                return;
            };
            self.busy = false;
            match result {
                Ok(()) => core.add_spare(request),
                Err(error) => {
                    tracing::warn!(error = %error, "could not prepare a log segment ahead of its use");
                    self.given_up = true;
                }
            }
        }
        if self.given_up {
            return;
        }
        if let (Some(requests), Some(request)) = (&self.requests, core.wants_spare()) {
            self.busy = requests.try_send(request).is_ok();
        }
    }
}

impl Drop for SpareMaker {
    /// Waits for the thread, so that the directory is unlocked when the log is closed.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.requests = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that prepares log segments panicked");
        }
    }
}

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

/// Prepares files before they are needed, on its own thread.
pub(super) struct SpareMaker {
    /// `None` when the thread has to end.
    requests: Option<Sender<SpareRequest>>,
    made: Receiver<(SpareRequest, io::Result<()>)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
    /// Set after a failure. The log then creates its files itself and reports errors.
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

    /// Passes finished files to the log, and requests more if the log wants one.
    pub(super) fn turn(&mut self, core: &mut LogCore) {
        if self.busy {
            let Ok((request, result)) = self.made.try_recv() else {
                return;
            };
            self.busy = false;
            match result {
                Ok(()) => core.add_spare(request),
                Err(error) => {
                    tracing::warn!(error = %error, "could not prepare a log segment early");
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

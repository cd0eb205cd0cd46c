//! Connections, clients, and the time window in which requests count.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::future;
use rand::Rng as _;
use synod_runtime::clock;
use tonic::Status;

use super::{Shape, report::Samples};
use crate::connect::{Connection, Target};

/// Opens the connections, spread evenly over the endpoints.
///
/// # Errors
/// An endpoint can't be reached.
pub(crate) async fn connect(target: &Target, shape: &Shape) -> anyhow::Result<Vec<Connection>> {
    let endpoints = target.endpoints.len().max(1);
    let wanted = match shape.connections {
        0 => usize::from(shape.clients).div_ceil(8).max(endpoints),
        given => usize::from(given),
    };
    let wanted: Vec<&str> = (0..wanted)
        .map(|number| &*target.endpoints[number % endpoints])
        .collect();
    target.channels(&wanted).await
}

/// The start and end of the measurement.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    pub(crate) fn starting_now(shape: &Shape) -> Self {
        let begin = clock::now() + shape.warmup;
        Self {
            begin,
            end: begin + shape.duration,
        }
    }

    pub(crate) fn is_over(self, at: Instant) -> bool {
        at >= self.end
    }

    pub(crate) fn counts(self, at: Instant) -> bool {
        at >= self.begin && at < self.end
    }

    pub(crate) fn end(self) -> Instant {
        self.end
    }
}

/// Runs `clients` loops of one request each until the time is over.
///
/// `client` is called once per loop and returns the function that makes a request.
pub(crate) async fn closed_loop<C, F>(
    shape: &Shape,
    mut client: impl FnMut(u16) -> C,
) -> (Samples, Duration)
where
    C: FnMut() -> F,
    F: Future<Output = Result<(), Status>>,
{
    let window = Window::starting_now(shape);
    let samples = Rc::new(RefCell::new(Samples::new()));
    let loops = (0..shape.clients).map(|number| {
        let mut request = client(number);
        let samples = Rc::clone(&samples);
        async move {
            loop {
                let sent = clock::now();
                if window.is_over(sent) {
                    return;
                }
                let answer = request().await;
                let now = clock::now();
                if window.counts(now) {
                    match answer {
                        Ok(()) => samples.borrow_mut().succeeded(now - sent),
                        Err(status) => samples.borrow_mut().failed(&status),
                    }
                }
            }
        }
    });
    // One poll wakes only the loops whose answers arrived: `join_all` over many futures is a
    // FuturesUnordered.
    future::join_all(loops).await;
    let samples = Rc::try_unwrap(samples)
        .map(RefCell::into_inner)
        .unwrap_or_else(|_| Samples::new());
    (samples, shape.duration)
}

/// The key with this number.
pub(crate) fn key(shape: &Shape, number: u32) -> Vec<u8> {
    format!("{}{number:010}", shape.prefix).into_bytes()
}

/// A random key.
pub(crate) fn random_key(shape: &Shape) -> Vec<u8> {
    key(shape, rand::rng().random_range(0..shape.keys))
}

/// A value of the configured size. Its bytes are random, so that it can't be compressed.
pub(crate) fn value(shape: &Shape) -> bytes::Bytes {
    let mut value = vec![0; shape.value_bytes];
    rand::rng().fill(&mut value[..]);
    value.into()
}

//! Hands the result of a task to a request that may be dropped at any time, so that the task knows
//! whether the request has it.

use tokio::sync::oneshot;

/// The request confirms with the second one that it has the result.
type Claimed<T> = (T, oneshot::Sender<()>);

/// The task's end.
#[derive(Debug)]
pub(super) struct Answer<T>(oneshot::Sender<Claimed<T>>);

/// The request's end.
#[derive(Debug)]
pub(super) struct Answered<T>(oneshot::Receiver<Claimed<T>>);

/// Both ends.
pub(super) fn answer<T>() -> (Answer<T>, Answered<T>) {
    let (sender, receiver) = oneshot::channel();
    (Answer(sender), Answered(receiver))
}

impl<T> Answer<T> {
    /// Whether the request is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Resolves when the request is gone.
    pub(super) async fn closed(&mut self) {
        self.0.closed().await;
    }

    /// Gives the result to the request. Returns whether the request has it: a result that was sent
    /// is lost if the request is dropped before it receives it.
    pub(super) async fn give(self, result: T) -> bool {
        let (claim, claimed) = oneshot::channel();
        self.0.send((result, claim)).is_ok() && claimed.await.is_ok()
    }
}

impl<T> Answered<T> {
    /// The result; `None` if the task ended without one.
    ///
    /// # Cancel safety
    /// If the future is dropped, the task learns that the request does not have the result.
    pub(super) async fn receive(self) -> Option<T> {
        let (result, claim) = self.0.await.ok()?;
        // The task waits for this. The send fails only if the runtime ends.
        let _stopped = claim.send(());
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_result_that_is_received_counts() {
        let (task, request) = answer();
        assert!(!task.is_closed());
        let mut given = pin!(task.give(7));
        assert!(poll!(&mut given).is_pending(), "not received yet");
        assert_eq!(request.receive().await, Some(7));
        assert!(given.await);
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_before_the_result_does_not_have_it() {
        let (mut task, request) = answer();
        drop(request);
        task.closed().await;
        assert!(task.is_closed());
        assert!(!task.give(7).await);
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_with_the_result_on_its_way_does_not_have_it() {
        let (task, request) = answer();
        let mut received = Box::pin(request.receive());
        assert!(poll!(&mut received).is_pending());
        let mut given = pin!(task.give(7));
        assert!(poll!(&mut given).is_pending());
        drop(received);
        assert!(!given.await);
    }

    #[tokio::test]
    async fn a_task_that_ends_without_a_result_ends_the_wait() {
        let (task, request) = answer::<u8>();
        drop(task);
        assert_eq!(request.receive().await, None);
    }
}

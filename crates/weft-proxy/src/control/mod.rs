//! The proxy's side of the control plane: what the request path asks of it, and the client that speaks to it.
//!
//! The request path knows only the two handles below: [`Needs`] asks for something that the snapshot lacks, and
//! `reports` carries telemetry away. The client itself (join, delta stream, renewal, reports, last-good file) lives in
//! the other files of this folder and runs on one control thread; it owns the receivers.
//!
//! Contract between the two sides:
//! * The client keeps the `View`, calls [`crate::snapshot::build`] with each change and stores the result with
//!   [`crate::Shared::publish`]; the returned rejections go back as a NACK.
//! * A [`NeedRequest`] is answered *after* the snapshot that holds the answer has been published.

use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use weft_model::Root;

/// The answer to a cold miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    /// The snapshot now holds the service with this fully qualified host.
    Resolved(String),
    /// The mesh does not know it.
    Unknown,
    /// No answer in time: the control plane is slow or away.
    Timeout,
}

/// One question, as the control client receives it.
#[derive(Debug)]
pub struct NeedRequest {
    /// What is missing.
    pub root: Root,
    /// Where the answer goes. The asker may have left.
    pub answer: oneshot::Sender<Needed>,
}

/// Asks the control plane for what the snapshot lacks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Needs {
    requests: mpsc::Sender<NeedRequest>,
}

impl Needs {
    /// The handle and the queue that the control client serves. When the queue is full or gone, every need times out at once.
    pub fn channel() -> (Self, mpsc::Receiver<NeedRequest>) {
        let (requests, receiver) = mpsc::channel(crate::limits::NEEDS_QUEUED_MAX);
        (Self { requests }, receiver)
    }

    /// Asks for `root` and waits at most `deadline`. Cancellation forgets the answer only.
    pub async fn need(&self, root: Root, deadline: Duration) -> Needed {
        let (answer, receiver) = oneshot::channel();
        if self.requests.try_send(NeedRequest { root, answer }).is_err() {
            return Needed::Timeout;
        }
        match tokio::time::timeout(deadline, receiver).await {
            Ok(Ok(needed)) => needed,
            Ok(Err(_)) | Err(_) => Needed::Timeout,
        }
    }
}

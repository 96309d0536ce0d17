//! The delta stream: one session task per proxy.

use super::{Shared, limits, peer_of, session::Session};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::v1::{self, discovery_server};

/// The service.
pub(crate) struct Discovery {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl discovery_server::Discovery for Discovery {
    type DeltaStream = ReceiverStream<Result<v1::DeltaResponse, Status>>;

    async fn delta(&self, request: Request<Streaming<v1::DeltaRequest>>) -> Result<Response<Self::DeltaStream>, Status> {
        let peer = peer_of(&request)?;
        let (responses, stream) = mpsc::channel(limits::RESPONSES_MAX);
        let session = Session::new(self.shared.clone(), peer, responses);
        self.shared.spawner.spawn("session of a proxy", session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

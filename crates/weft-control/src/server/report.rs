//! What proxies report: checked against the certificate, then handed on.

use super::{Shared, peer_of};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use weft_model::SpiffeId;
use weft_proto::v1::{self, telemetry_server};
use weft_std::clock;
use weft_telemetry::{Party, Report, Reporter};

/// The service.
pub(crate) struct Telemetry {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl telemetry_server::Telemetry for Telemetry {
    async fn report(&self, request: Request<Streaming<v1::ReportChunk>>) -> Result<Response<v1::ReportSummary>, Status> {
        let peer = peer_of(&request)?;
        let mut chunks = request.into_inner();
        let mut taken = 0;
        while let Some(chunk) = chunks.message().await? {
            let mut report: Report = serde_json::from_slice(&chunk.json)
                .map_err(|error| Status::invalid_argument(format!("the report cannot be read: {error}")))?;
            let foreign = keep_own(&mut report, &peer.id);
            if foreign > 0 {
                tracing::warn!(identity = %peer.id, foreign, "a proxy reported for others: left out");
            }
            self.shared.parts.taps.report(std::mem::take(&mut report.tapped), &peer.id);
            self.shared.parts.telemetry.report(report, clock::unix_ms());
            taken += 1;
        }
        Ok(Response::new(v1::ReportSummary { taken }))
    }
}

/// Leaves out what somebody else would have to report, and answers how much that was.
fn keep_own(report: &mut Report, id: &SpiffeId) -> usize {
    let own = id.to_string();
    let is_own = |reporter: Reporter, source: &Party, destination: &Party| {
        let side = match reporter {
            Reporter::Source => source,
            Reporter::Destination => destination,
        };
        side.principal.is_empty() || side.principal == own
    };
    let before = report.edges.len() + report.records.len();
    report.edges.retain(|(key, _)| is_own(key.reporter, &key.source, &key.destination));
    report.records.retain(|record| is_own(record.reporter, &record.source, &record.destination));
    before - report.edges.len() - report.records.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_telemetry::{EdgeCounts, EdgeKey};

    #[test]
    fn a_proxy_reports_for_itself_only() {
        let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/reviews".parse().expect("id");
        let party = |account: &str| Party { principal: format!("spiffe://cluster.local/ns/default/sa/{account}"), ..Party::default() };
        let edge = |reporter, source: &str, destination: &str| {
            let (source, destination) = (party(source), party(destination));
            let key = EdgeKey { reporter, source, destination, destination_service: String::new(), protocol: "http".into() };
            (key, EdgeCounts::default())
        };
        let mut report = Report {
            edges: vec![
                edge(Reporter::Source, "reviews", "ratings"),
                edge(Reporter::Destination, "productpage", "reviews"),
                edge(Reporter::Source, "productpage", "reviews"),
                edge(Reporter::Destination, "reviews", "ratings"),
            ],
            ..Report::default()
        };
        assert_eq!(keep_own(&mut report, &id), 2);
        assert_eq!(report.edges.len(), 2);
    }
}

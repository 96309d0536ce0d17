//! The heads of an exchange, kept only while somebody taps this proxy, and without their secrets from the first moment.

use super::{Exchange, Worker};
use http::HeaderMap;
use weft_std::clock;
use weft_telemetry::{Edge, Extras, Tapped, TappedHead};

/// What a tap shows beside the record.
pub(super) struct Heads {
    request: TappedHead,
    response: TappedHead,
}

fn head(headers: &HeaderMap) -> TappedHead {
    TappedHead::of(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

/// The request's head, where anybody wants it.
pub(super) fn begin(worker: &Worker, headers: &HeaderMap) -> Option<Box<Heads>> {
    worker.shared.taps.active().then(|| Box::new(Heads { request: head(headers), response: TappedHead::default() }))
}

impl Exchange {
    /// Keeps the answer's head.
    pub(super) fn tap_response(&mut self, headers: &HeaderMap) {
        if let Some(heads) = &mut self.tap {
            heads.response = head(headers);
        }
    }

    /// Shows the exchange to those who tap.
    pub(super) fn show(&mut self, edge: &Edge) {
        let Some(heads) = self.tap.take() else { return };
        let (facts, mut record) = (&mut self.facts, self.record.clone());
        // Filling takes from the facts what the record itself still needs.
        let (first, authority) = (facts.first, facts.authority.clone());
        facts.fill(&mut record);
        (facts.first, facts.authority) = (first, authority);
        edge.name().write(&mut record);
        let Heads { request, response } = *heads;
        let extras = Extras {
            local_address: facts.connection.local_address.to_string(),
            scheme: facts.connection.scheme(),
            own_principal: facts.config.own.principal.clone(),
            own_labels: facts.config.plan.own_labels.clone(),
            request_headers: request.headers.clone(),
            response_headers: response.headers.clone(),
            trailers: Vec::new(),
        };
        let exchange = Tapped::new(record, request, response);
        self.worker.shared.taps.offer(clock::now(), &exchange, &extras, &self.worker.settings.registry);
    }
}

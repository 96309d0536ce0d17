//! Hedging: further attempts beside a slow one. The first good answer wins; the others are cancelled with their connections.

use super::{
    Exchange, Reject,
    body::RequestBody,
    upstream::{Bodies, Course, Head, Outgoing, Sending, note_attempt},
};
use crate::upstream::{Admitted, Chosen, InFlight};
use http::Request;
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use weft_model::{AttemptFailure, Hedging, Retry};
use weft_std::clock::{self, Instant};
use weft_telemetry::ResponseFlag;

/// What a race is run with.
pub(super) struct Race<'r> {
    pub sending: &'r Sending<'r>,
    pub hedging: &'r Hedging,
    pub retry: Option<&'r Retry>,
    pub spare: &'r Head,
    pub bodies: &'r Bodies,
}

/// An attempt under way.
struct Runner {
    chosen: Rc<Chosen>,
    started: Instant,
    in_flight: Option<InFlight>,
}

/// A request to send beside the others, and where to.
type Further = (Rc<Chosen>, Box<Request<RequestBody>>);
type Attempt<'f> = Pin<Box<dyn Future<Output = Outgoing> + 'f>>;

/// The attempts under way, by their place among all of the race.
#[derive(Default)]
struct Field<'f>(Vec<Option<Attempt<'f>>>);

impl Field<'_> {
    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
    /// The first that is over, with its place.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Outgoing)> {
        for (index, place) in self.0.iter_mut().enumerate() {
            if let Some(attempt) = place
                && let Poll::Ready(outcome) = attempt.as_mut().poll(cx)
            {
                *place = None;
                return Poll::Ready((index, outcome));
            }
        }
        Poll::Pending
    }
}

impl Race<'_> {
    /// Runs the first attempt and those beside it. What it returns is the answer, or the failure of the last that was left.
    pub(super) async fn run(
        &self,
        course: &mut Course,
        first: (Rc<Chosen>, Box<Request<RequestBody>>, &Rc<Cell<bool>>),
        exchange: &mut Exchange,
    ) -> Result<(Rc<Chosen>, Outgoing), Reject> {
        let (chosen, request, sent) = first;
        let mut runners = vec![Runner { chosen: chosen.clone(), started: clock::now(), in_flight: exchange.lasting.in_flight.take() }];
        let mut running = Field::default();
        running.0.push(Some(self.attempt(chosen, course, request, sent.clone(), exchange)));
        let delay = self.delay(course);
        let mut next = clock::now() + delay;
        let mut left = self.hedging.attempts;
        loop {
            let timer = async {
                match left {
                    0 => std::future::pending().await,
                    _ => tokio::time::sleep_until(next).await,
                }
            };
            tokio::select! {
                biased;
                (index, outcome) = std::future::poll_fn(|cx| running.poll_next(cx)) => {
                    let settled = running.is_empty() || self.is_good(&outcome);
                    let Some(runner) = runners.get_mut(index) else { return Err(Reject::Overload("a race lost its runner")) };
                    let chosen = runner.chosen.clone();
                    if settled {
                        course.upstream.note_latency(runner.started.elapsed());
                        exchange.lasting.in_flight = runner.in_flight.take();
                        exchange.facts.chosen = Some(chosen.clone());
                        self.cancelled(&runners, index, exchange);
                        return Ok((chosen, outcome));
                    }
                    runner.in_flight = None;
                    let _ = self.sending.note(course, Some(&chosen), outcome, runner.started, exchange);
                    course.tried.push(chosen.id);
                }
                () = timer => {
                    left -= 1;
                    next += delay;
                    let Some((chosen, request)) = self.further(course, &runners, exchange)? else { left = 0; continue };
                    let in_flight = Some(course.upstream.in_flight(&chosen));
                    running.0.push(Some(self.attempt(chosen.clone(), course, request, Rc::new(Cell::new(true)), exchange)));
                    runners.push(Runner { chosen, started: clock::now(), in_flight });
                }
            }
        }
    }

    fn attempt<'f>(
        &'f self,
        chosen: Rc<Chosen>,
        course: &Course,
        request: Box<Request<RequestBody>>,
        sent: Rc<Cell<bool>>,
        exchange: &Exchange,
    ) -> Attempt<'f> {
        let (version, received) = (course.version, exchange.received.clone());
        Box::pin(async move { self.sending.one(&chosen, version, request, &sent, received).await })
    }

    /// The next request to send beside the others; `None` when there may be none: no endpoint is left, the body is not at hand, or the
    /// budget of retries or of sends is used up.
    fn further(&self, course: &mut Course, runners: &[Runner], exchange: &mut Exchange) -> Result<Option<Further>, Reject> {
        if course.sends >= self.sending.sends_max {
            self.sending.worker.settings.registry.limit("SENDS_MAX").inc();
            return Ok(None);
        }
        let Some(body) = self.bodies.at_hand() else { return Ok(None) };
        let tried: Vec<_> = course.tried.iter().copied().chain(runners.iter().map(|r| r.chosen.id)).collect();
        let rolls = (self.sending.worker.roll(), self.sending.worker.roll());
        let Ok(chosen) = course.upstream.pick(clock::now(), rolls, &tried) else { return Ok(None) };
        if !exchange.lasting.admitted.as_mut().is_some_and(Admitted::try_retry) {
            return Ok(None);
        }
        let mut request = Box::new(self.spare.clone()).request(course.version, body)?;
        course.sends += 1;
        self.sending.stamp(&mut request, course);
        if !exchange.record.flags.contains(&ResponseFlag::Hedged) {
            exchange.record.flags.push(ResponseFlag::Hedged);
        }
        Ok(Some((chosen, request)))
    }

    /// An answer that no retry policy would throw away.
    fn is_good(&self, outcome: &Outgoing) -> bool {
        let Ok((response, _)) = outcome else { return false };
        let (status, grpc_status) = (response.status().as_u16(), super::headers::grpc_status(response.headers()));
        let marked = |r: &Retry| r.on.marks(response.headers());
        !self.retry.is_some_and(|r| r.on.covers(AttemptFailure::Response { status, grpc_status, marked: marked(r) }))
    }

    fn cancelled(&self, runners: &[Runner], winner: usize, exchange: &mut Exchange) {
        if runners.len() > 1 {
            for (index, runner) in runners.iter().enumerate() {
                if index != winner && runner.in_flight.is_some() {
                    let address = runner.chosen.endpoint.address.to_string();
                    note_attempt(
                        exchange,
                        &address,
                        &runner.chosen.endpoint.workload,
                        "cancelled: another was faster".into(),
                        runner.started,
                    );
                }
            }
        }
    }

    fn delay(&self, course: &Course) -> Duration {
        let learned = self.hedging.percentile.and_then(|percent| course.upstream.latency(percent));
        learned.unwrap_or(Duration::from_millis(self.hedging.delay_ms))
    }
}

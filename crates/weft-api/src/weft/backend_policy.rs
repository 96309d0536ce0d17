//! `BackendPolicy`: how a service's endpoints are watched and chosen, beyond what DestinationRule can say.

use crate::diag;
use crate::istio::PolicyTargetReference;
use crate::node::{Node, Value};
use crate::read::{Path, Read, Reader, Spanned};
use std::time::Duration;

object! {
    /// `weft.dev/v1alpha1 BackendPolicy`: how the endpoints of some services are watched and chosen.
    pub struct BackendPolicy {
        /// Services or ServiceEntries of the same namespace.
        target_refs: Vec<Spanned<PolicyTargetReference>> = "targetRefs",
        /// Endpoints are asked whether they are well.
        health_check: Option<Spanned<HealthCheck>> = "healthCheck",
        /// How one is chosen.
        load_balancing: Option<Spanned<LoadBalancing>> = "loadBalancing",
        /// Where fewer endpoints than this share are usable, all are used, in percent; 0: never. Absent: 50 with a health check.
        panic_threshold: Option<Spanned<u32>> = "panicThreshold",
        /// Ejection by rates.
        outlier_detection: Option<Spanned<RateOutlierDetection>> = "outlierDetection",
    }
}

object! {
    /// What is asked of an endpoint, and how often. One of `http`, `tcp` and `grpc`.
    pub struct HealthCheck {
        /// `GET` of a path.
        http: Option<HttpHealthCheck> = "http",
        /// A connection.
        tcp: Option<TcpHealthCheck> = "tcp",
        /// `grpc.health.v1.Health/Check`.
        grpc: Option<GrpcHealthCheck> = "grpc",
        /// Time between two questions; absent: 10 s.
        interval: Option<Duration> = "interval",
        /// Longest wait for the answer; absent: 2 s.
        timeout: Option<Duration> = "timeout",
        /// Good answers in a row that make an endpoint healthy again; absent: 2.
        healthy_threshold: Option<u32> = "healthyThreshold",
        /// Bad answers in a row that make an endpoint unhealthy; absent: 3.
        unhealthy_threshold: Option<u32> = "unhealthyThreshold",
    }
}

object! {
    /// `GET` of a path.
    pub struct HttpHealthCheck {
        /// Path; absent: `/`.
        path: Option<String> = "path",
        /// `Host`; absent: the service's.
        host: Option<String> = "host",
        /// Good statuses, e.g. `200` or `200-299`; absent: 200-399.
        expected_statuses: Vec<StatusRange> = "expectedStatuses",
        /// Further headers.
        headers: Vec<HealthCheckHeader> = "headers",
    }
}

object! {
    /// A header of the question.
    pub struct HealthCheckHeader {
        /// Name.
        name: String = "name",
        /// Value.
        value: String = "value",
    }
}

object! {
    /// A connection that is accepted.
    pub struct TcpHealthCheck {}
}

object! {
    /// gRPC's own health service.
    pub struct GrpcHealthCheck {
        /// Service; absent: the whole server.
        service: Option<String> = "service",
    }
}

/// A status, or a range with both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange(pub u16, pub u16);

impl Read for StatusRange {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let range = match &node.value {
            Value::Text { text, .. } => {
                let (low, high) = text.split_once('-').unwrap_or((text, text));
                low.trim().parse().ok().zip(high.trim().parse().ok())
            }
            _ => u16::read(node, at, reader).map(|status| (status, status)),
        };
        match range {
            Some((low, high)) if (100..600).contains(&low) && low <= high && high < 600 => Some(Self(low, high)),
            _ => {
                reader.bad_value(node, at, &format!("{} is not a status such as 200 or a range such as 200-299", diag::quote(node.what())))
            }
        }
    }
}

object! {
    /// How an endpoint is chosen.
    pub struct LoadBalancing {
        /// The method.
        algorithm: Option<Algorithm> = "algorithm",
    }
}

choice! {
    /// Ways of choosing an endpoint.
    pub enum Algorithm {
        /// The lower expected latency, of two drawn at random; who says that it is busy (429 or 503 with Retry-After) is avoided.
        Ewma = "EWMA",
        /// The one with fewer requests in flight.
        LeastRequest = "LEAST_REQUEST",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// At random.
        Random = "RANDOM",
    }
}

object! {
    /// Ejection by rates.
    pub struct RateOutlierDetection {
        /// Time between two looks; absent: 10 s, or what the DestinationRule says.
        interval: Option<Duration> = "interval",
        /// First ejection; absent: 30 s, or what the DestinationRule says.
        base_ejection_time: Option<Duration> = "baseEjectionTime",
        /// Longest ejection; absent: 5 min.
        max_ejection_time: Option<Duration> = "maxEjectionTime",
        /// Share of endpoints that may be out, in percent; absent: 10, or what the DestinationRule says.
        max_ejection_percent: Option<u32> = "maxEjectionPercent",
        /// Far below the mean of the others.
        success_rate: Option<SuccessRate> = "successRate",
        /// Too many failures.
        failure_percentage: Option<FailurePercentage> = "failurePercentage",
    }
}

object! {
    /// An endpoint whose success rate is far below that of the others is ejected.
    pub struct SuccessRate {
        /// Fewest endpoints with enough requests; absent: 5.
        minimum_hosts: Option<u32> = "minimumHosts",
        /// Fewest requests in an interval; absent: 100.
        request_volume: Option<u32> = "requestVolume",
        /// How many standard deviations below the mean; absent: 1.9.
        stdev_factor: Option<f64> = "stdevFactor",
    }
}

object! {
    /// An endpoint that fails too large a share is ejected.
    pub struct FailurePercentage {
        /// Percent; absent: 85.
        threshold: Option<u32> = "threshold",
        /// Fewest endpoints with enough requests; absent: 5.
        minimum_hosts: Option<u32> = "minimumHosts",
        /// Fewest requests in an interval; absent: 50.
        request_volume: Option<u32> = "requestVolume",
    }
}

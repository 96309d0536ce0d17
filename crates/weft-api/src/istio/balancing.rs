//! `DestinationRule.trafficPolicy.loadBalancer`: how an endpoint is chosen.

use crate::read::Spanned;
use std::{collections::BTreeMap, time::Duration};

object! {
    /// How an endpoint is chosen.
    pub struct LoadBalancerSettings {
        /// A plain method; absent: least request.
        simple: Option<SimpleLb> = "simple",
        /// By a hash of the request.
        consistent_hash: Option<Spanned<ConsistentHash>> = "consistentHash",
        /// Preference by locality.
        locality_lb_setting: Option<Spanned<LocalityLbSetting>> = "localityLbSetting",
        /// Preference of the own zone.
        zone_aware_lb_setting: Option<Spanned<ZoneAwareLbSetting>> = "zoneAwareLbSetting",
        /// New endpoints get little at first.
        warmup: Option<Spanned<Warmup>> = "warmup",
        /// Deprecated form of `warmup.duration`.
        warmup_duration_secs: Option<Duration> = "warmupDurationSecs",
    }
    later ["backendUtilization"]
}

choice! {
    /// Plain ways of choosing an endpoint.
    pub enum SimpleLb {
        /// As if absent.
        Unspecified = "UNSPECIFIED",
        /// Old name of `LEAST_REQUEST`.
        LeastConn = "LEAST_CONN",
        /// At random.
        Random = "RANDOM",
        /// The address that the caller wanted.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The one with fewer requests in flight.
        LeastRequest = "LEAST_REQUEST",
    }
}

object! {
    /// By a hash of one part of the request.
    pub struct ConsistentHash {
        /// A header.
        http_header_name: Option<String> = "httpHeaderName",
        /// A cookie, made where a caller has none and `ttl` is given.
        http_cookie: Option<HttpCookie> = "httpCookie",
        /// The address of the caller.
        use_source_ip: bool = "useSourceIp",
        /// A parameter of the query.
        http_query_parameter_name: Option<String> = "httpQueryParameterName",
        /// On a ring; the default.
        ring_hash: Option<RingHash> = "ringHash",
        /// In a Maglev table.
        maglev: Option<Spanned<Maglev>> = "maglev",
        /// Deprecated form of `ringHash.minimumRingSize`.
        minimum_ring_size: Option<u32> = "minimumRingSize",
    }
}

object! {
    /// A cookie to hash by.
    pub struct HttpCookie {
        /// Name.
        name: String = "name",
        /// Path of a cookie that is made.
        path: Option<String> = "path",
        /// Life of a cookie that is made; 0: the browser's session.
        ttl: Option<Duration> = "ttl",
        /// Further attributes of a cookie that is made.
        attributes: Vec<CookieAttribute> = "attributes",
    }
}

object! {
    /// An attribute of a cookie, e.g. `SameSite`.
    pub struct CookieAttribute {
        /// Name.
        name: String = "name",
        /// Value; absent for a flag.
        value: Option<String> = "value",
    }
}

object! {
    /// A hash ring.
    pub struct RingHash {
        /// Fewest points; absent: 1024.
        minimum_ring_size: Option<u32> = "minimumRingSize",
    }
}

object! {
    /// A Maglev table.
    pub struct Maglev {
        /// Slots, a prime below 5,000,011; absent: 65,537.
        table_size: Option<u32> = "tableSize",
    }
}

object! {
    /// Preference by locality.
    pub struct LocalityLbSetting {
        /// Absent: on.
        enabled: Option<bool> = "enabled",
        /// Fixed shares.
        distribute: Vec<Spanned<LocalityDistribute>> = "distribute",
        /// Regions that take over.
        failover: Vec<Spanned<LocalityFailover>> = "failover",
        /// Labels that make an endpoint near.
        failover_priority: Vec<String> = "failoverPriority",
    }
}

object! {
    /// Shares for the callers of one locality.
    pub struct LocalityDistribute {
        /// `region/zone/subzone`, with `*`.
        from: String = "from",
        /// Percent by locality; in all 100.
        to: BTreeMap<String, u32> = "to",
    }
}

object! {
    /// Where a region's traffic goes when it fails.
    pub struct LocalityFailover {
        /// Region.
        from: String = "from",
        /// Region.
        to: String = "to",
    }
}

object! {
    /// Preference of the own zone, as far as its capacity reaches.
    pub struct ZoneAwareLbSetting {
        /// Absent: off.
        enabled: Option<bool> = "enabled",
        /// Order of the other regions.
        failover: Vec<Spanned<LocalityFailover>> = "failover",
        /// Labels that make an endpoint near; not those of region, zone and subzone.
        failover_priority: Vec<String> = "failoverPriority",
        /// With fewer endpoints zones make no difference; absent: 6.
        min_cluster_size: Option<u32> = "minClusterSize",
    }
}

object! {
    /// New endpoints get little at first.
    pub struct Warmup {
        /// Until a new endpoint has its whole share.
        duration: Duration = "duration",
        /// Its share at the start, in percent; absent: 10.
        minimum_percent: Option<f64> = "minimumPercent",
        /// 1 grows evenly, more grows faster at first; absent: 1.
        aggression: Option<f64> = "aggression",
    }
}

//! Findings of linking: codes in the 2000s, each made by one function with one wording.

use crate::RegisteredWorkload;
use std::net::IpAddr;
use weft_api::{
    Diagnostic,
    diag::{Code, quote},
};
use weft_model::{Origin, ServicePort};

/// Declares a code's row.
const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code { code, title, explanation }
}

/// Every code of this crate.
pub const CODES: &[Code] = &[
    code(
        "WEFT-2001",
        "unknown host",
        "A route sends to a host that no Service, ServiceEntry or registered workload stands for. Requests that take the route are answered with 503.",
    ),
    code(
        "WEFT-2002",
        "unknown subset",
        "A route sends to a subset that no DestinationRule of that host defines. Requests that take the route are answered with 503.",
    ),
    code(
        "WEFT-2003",
        "unknown port",
        "A route sends to a port that the service does not have. Requests that take the route are answered with 503 (500 for Gateway API).",
    ),
    code("WEFT-2004", "bad host name", "A host is not a DNS name, `*` or `*.suffix`. The entry is left out."),
    code(
        "WEFT-2005",
        "host already ruled",
        "Two VirtualServices rule the same host for sidecars. The older one wins; the younger has no effect on that host.",
    ),
    code("WEFT-2006", "unknown gateway", "A VirtualService names a gateway that does not exist."),
    code("WEFT-2007", "match asks nothing", "A match block has no condition, so it matches every request."),
    code("WEFT-2008", "bad regular expression", "A regular expression is not legal RE2 or too large. The match that has it is left out."),
    code(
        "WEFT-2009",
        "delegate cannot be used",
        "A rule goes on in another VirtualService that does not exist, has hosts of its own, is not exported to the root's namespace, or delegates in turn. The rule is left out.",
    ),
    code(
        "WEFT-2010",
        "rule without destination",
        "A rule neither routes, redirects nor responds. Requests that take it are answered with 503.",
    ),
    code("WEFT-2011", "bad header", "A header's name or value is not allowed in HTTP. The edit is left out."),
    code("WEFT-2012", "service declared twice", "Two objects declare the same host. The Kubernetes Service, else the older, wins."),
    code("WEFT-2013", "address used twice", "Two services claim the same virtual address. The first keeps it."),
    code(
        "WEFT-2014",
        "no virtual address left",
        "All addresses of 240.240.0.0/16 are taken. The service can be called by its Host header only.",
    ),
    code(
        "WEFT-2015",
        "target port not registered",
        "A Service selects a workload that has no port of the wanted number or name. The workload gets no traffic from that service port.",
    ),
    code(
        "WEFT-2016",
        "workload not selected",
        "A service of the workload's own name exists, but its selector does not choose the workload. The workload gets no traffic.",
    ),
    code("WEFT-2017", "endpoints not used", "A ServiceEntry with resolution NONE lists endpoints, which are not used."),
    code("WEFT-2018", "bad address", "An address is neither an IP, a block nor a DNS name. The entry is left out."),
    code(
        "WEFT-2019",
        "host without service",
        "A VirtualService rules a host that is no service, so nothing in the mesh calls it by that name.",
    ),
    code("WEFT-2020", "unreachable rule", "A rule stands behind one that matches every request."),
    code("WEFT-2021", "rule left out", "An HTTP rule cannot be used, as no usable match is left."),
    code("WEFT-2022", "route beside another action", "A rule has a route and a redirect or direct response; the route is not used."),
    code("WEFT-2023", "no weight", "All destinations of a rule have weight 0. Requests that take it are answered with 503."),
    code(
        "WEFT-2024",
        "header condition ignored",
        "Conditions on `uri`, `scheme`, `method` and `authority` as headers are ignored, as in Istio: they have fields of their own.",
    ),
    code(
        "WEFT-2025",
        "bad claims condition",
        "A header condition whose name begins with @ is on no claim of a token. The match is left out.",
    ),
    code("WEFT-2027", "prefix rewrite without prefix", "A redirect's prefixRewrite needs one prefix match. The path is kept."),
    code("WEFT-2028", "bad redirect status", "A redirect needs status 301, 302, 303, 307 or 308."),
    code("WEFT-2029", "fault without percentage", "A fault without percentage applies to no request (Istio's default is 0)."),
    code("WEFT-2030", "unknown gRPC status", "A gRPC status is not one of the 17 names. The fault is left out."),
    code("WEFT-2031", "unknown retry condition", "A word of retryOn is not a condition that Weft knows. It is left out."),
    code("WEFT-2032", "TLS rule without SNI", "A TLS rule needs sniHosts in a match. The rule is left out."),
    code(
        "WEFT-2033",
        "no common host",
        "A VirtualService is bound to a gateway, but shares no host with its servers. It has no effect there.",
    ),
    code(
        "WEFT-2034",
        "second catch-all",
        "Two VirtualServices of a gateway have a rule that matches everything for the same host. The older counts.",
    ),
    code("WEFT-2101", "DestinationRule for unknown host", "The host of a DestinationRule is no service, so the rule has no effect."),
    code("WEFT-2102", "subset defined twice", "A subset is defined twice for a host. The first definition wins."),
    code("WEFT-2103", "traffic policy given twice", "Two DestinationRules of a namespace give a policy for the same host. The older wins."),
    code("WEFT-2104", "subset without endpoints", "No running endpoint of the service has the labels of the subset."),
    code(
        "WEFT-2105",
        "plain text to a STRICT workload",
        "A DestinationRule asks for plain text towards workloads whose PeerAuthentication refuses it. Every request fails.",
    ),
    code(
        "WEFT-2106",
        "failover without outlierDetection",
        "Failover by locality needs something that notices failures: outlierDetection, or a BackendPolicy with a health check. Without it all endpoints are used alike.",
    ),
    code("WEFT-2107", "balancer settings exclude each other", "Two settings of a load balancer cannot hold together. One of them counts."),
    code(
        "WEFT-2108",
        "shares are not 100 percent",
        "The shares of a locality's traffic do not add up to 100. They are used in proportion.",
    ),
    code("WEFT-2109", "bad Maglev table size", "The size of a Maglev table must be a prime below 5,000,011. 65,537 is used."),
    code(
        "WEFT-2110",
        "consistentHash without key",
        "consistentHash must name a header, cookie, query parameter or the source address. Least request is used.",
    ),
    code(
        "WEFT-2111",
        "bad failover",
        "A failover leads from one region to another; zones and wildcards cannot stand there, nor the same region twice.",
    ),
    code("WEFT-2112", "warm-up without effect", "Only least request and round robin warm endpoints up, as in Istio."),
    code(
        "WEFT-2113",
        "target of a BackendPolicy not found",
        "A BackendPolicy names something that is no Service or ServiceEntry of its namespace. It has no effect there.",
    ),
    code("WEFT-2114", "BackendPolicy given twice", "Two BackendPolicies name the same service. The older counts."),
    code(
        "WEFT-2115",
        "health check without question",
        "A healthCheck needs exactly one of http, tcp and grpc. Without it nothing is checked.",
    ),
    code("WEFT-2201", "policy fails closed", "An AuthorizationPolicy cannot be enforced as written, so what it might refuse is refused."),
    code(
        "WEFT-2203",
        "condition cannot be decided",
        "A policy looks at something that Weft does not know (yet). An ALLOW rule with it never matches; for a DENY rule it always does.",
    ),
    code("WEFT-2204", "policy target not found", "The object that a policy is attached to does not exist, so the policy protects nothing."),
    code("WEFT-2205", "DENY without rules", "A DENY policy without rules denies nothing."),
    code("WEFT-2206", "bad port", "A port of a policy is not a number from 0 to 65535. The rule fails closed."),
    code(
        "WEFT-2207",
        "policy selects nothing",
        "No running or declared workload has the labels of an AuthorizationPolicy's selector, so it protects nothing.",
    ),
    code("WEFT-2250", "bad annotation", "An annotation of Weft's has a value that it does not know. It is left out."),
    code("WEFT-2251", "unknown cipher suite", "A cipher suite is none that the proxy has. It is left out; the others are offered."),
    code(
        "WEFT-2252",
        "no roots for clients",
        "Client certificates are to be checked and no roots can be found for that. The listener is not opened, as it would refuse or admit everybody.",
    ),
    code("WEFT-2253", "no such roots", "A reference to a ConfigMap or Secret with `ca.crt` leads nowhere."),
    code(
        "WEFT-2254",
        "credential not found",
        "A DestinationRule or BackendTLSPolicy names a certificate or roots that do not exist. Nothing is sent to the host until they do.",
    ),
    code("WEFT-2255", "policy target not found", "A BackendTLSPolicy names a Service or port that does not exist, so it has no effect."),
    code("WEFT-2256", "two policies for one backend", "Two BackendTLSPolicies are for the same Service port. The older one wins."),
    code(
        "WEFT-2257",
        "no trust",
        "A BackendTLSPolicy names neither CA certificates nor the system's, so that nothing could be checked. Nothing is sent to the backend.",
    ),
    code(
        "WEFT-2258",
        "resolution needs a wildcard",
        "Resolution DYNAMIC_DNS is for hosts such as `*.example.org`; a single name is resolved as with DNS.",
    ),
    code("WEFT-2301", "PeerAuthentication given twice", "Two PeerAuthentications have the same scope. The older wins."),
    code(
        "WEFT-2302",
        "selector in the root namespace",
        "A PeerAuthentication with a selector in the root namespace is ignored, as in Istio.",
    ),
    code("WEFT-2303", "port modes without selector", "portLevelMtls needs a selector; without one it is ignored."),
    code(
        "WEFT-2310",
        "delegate beside a destination",
        "A rule that delegates has a route, redirect or directResponse too, which is not used.",
    ),
    code(
        "WEFT-2311",
        "delegate outside its root",
        "A delegate's rule matches what its root does not, or one of the two uses a regular expression for what the other matches too. The rule is left out.",
    ),
    code("WEFT-2312", "credentials for any origin", "A CORS policy lets every origin send credentials: any page can act as its visitor."),
    code("WEFT-2313", "too many attempts", "A request is sent ten times at most, whatever a retry policy says."),
    code("WEFT-2314", "retriable-headers without names", "The condition needs the names of headers, which a RoutePolicy gives."),
    code("WEFT-2315", "retriable-status-codes without codes", "The condition needs status codes in the same list."),
    code("WEFT-2316", "HTTP/3 condition", "Weft speaks no HTTP/3 to upstreams, so the retry condition never holds."),
    code("WEFT-2317", "body too long", "The body of a direct response is longer than allowed and is cut."),
    code(
        "WEFT-2319",
        "operator taken as text",
        "The value of a header edit holds an operator of Envoy such as %REQ(x)%, which is sent as it stands.",
    ),
    code(
        "WEFT-2320",
        "target of a RoutePolicy not found",
        "A RoutePolicy is attached to a route, rule or Service that does not exist in its namespace.",
    ),
    code("WEFT-2321", "RoutePolicy given twice", "Two RoutePolicies are attached to the same object. The older wins."),
    code("WEFT-2322", "RoutePolicy not usable", "A part of a RoutePolicy cannot be used and is left out; the rest of it holds."),
    code("WEFT-2323", "unknown fallback condition", "A failure named in `fallback.on` is none that Weft knows. It is left out."),
    code("WEFT-2318", "body is not base64", "The bytes of a direct response's body are not base64. The body is empty."),
    code("WEFT-2401", "unknown gateway class", "No controller of the class is Weft, so the Gateway is left alone."),
    code("WEFT-2402", "parent not found", "A route attaches to something that does not exist."),
    code("WEFT-2403", "not allowed by listener", "No listener of the gateway allows the route (its namespace or kind)."),
    code("WEFT-2404", "no matching hostname", "The hostnames of the route and of the listener have nothing in common."),
    code(
        "WEFT-2405",
        "backend not found",
        "A route sends to a backend that does not exist. Its share of the requests is answered with 500.",
    ),
    code(
        "WEFT-2406",
        "reference not granted",
        "A route refers to an object in another namespace, and no ReferenceGrant there allows it. Its share of the requests is answered with 500.",
    ),
    code(
        "WEFT-2407",
        "backend kind not supported",
        "A route sends to something that is not a Service. Its share of the requests is answered with 500.",
    ),
    code(
        "WEFT-2408",
        "filter not supported",
        "A filter cannot be applied. A request must not pass as if it had been, so it is answered with 500.",
    ),
    code(
        "WEFT-2409",
        "VirtualService before HTTPRoute",
        "A VirtualService and a route attached to the Service rule the same host. The VirtualService wins.",
    ),
    code(
        "WEFT-2410",
        "no certificate",
        "A listener ends TLS, but its certificate does not exist or cannot be read. The listener is not opened.",
    ),
    code("WEFT-2411", "listener protocol not supported", "A listener has a protocol that Weft does not serve. It is not opened."),
    code("WEFT-2412", "rule without backend", "A rule has no backend. Requests that take it are answered with 500."),
    code(
        "WEFT-2413",
        "listener conflict",
        "Two listeners of a gateway have the same port and hostname, or protocols that exclude each other. The first is used.",
    ),
    code(
        "WEFT-2450",
        "limit target not found",
        "The object that a RateLimit or ConcurrencyPolicy is attached to does not exist. The policy has no effect there.",
    ),
    code(
        "WEFT-2451",
        "limit cannot be used",
        "A limit, bulkhead or key says something that cannot be acted on. It is left out; the rest of its policy holds.",
    ),
    code("WEFT-2452", "policy limits nothing", "A RateLimit or ConcurrencyPolicy has no part that can be used. It has no effect."),
    code("WEFT-2453", "burst of a global limit", "A global limit counts in windows, so that a burst has no meaning for it. It is ignored."),
    code(
        "WEFT-2501",
        "no keys of an issuer",
        "The keys of a token issuer are not known (yet). Every token of the issuer is refused with 401.",
    ),
    code(
        "WEFT-2502",
        "bad key set",
        "The inline `jwks` of a RequestAuthentication cannot be used. Every token of the issuer is refused with 401.",
    ),
    code(
        "WEFT-2503",
        "unknown provider",
        "A CUSTOM policy names a provider that MeshConfig does not define. What it asks about is refused.",
    ),
    code(
        "WEFT-2504",
        "provider without service",
        "The service of an extension provider does not exist. What is asked of it is refused, or let through where `failOpen` is set.",
    ),
    code("WEFT-2505", "MeshConfig elsewhere", "A ConfigMap `istio` with `mesh` stands outside of the root namespace. It is ignored."),
    code(
        "WEFT-2506",
        "bad output header",
        "A header that is to carry a claim has an illegal or reserved name, or is set twice. It is left out.",
    ),
    code("WEFT-2507", "two sources of keys", "A JWT rule has `jwks` and `jwksUri`. The inline keys are used."),
    code(
        "WEFT-2508",
        "bad serviceAccounts",
        "`serviceAccounts` takes no wildcard and does not stand beside principals or namespaces. The source fails closed.",
    ),
    code("WEFT-2509", "bad error status", "`statusOnError` is not a status from 400 to 599. 403 is used."),
    code("WEFT-2510", "bad path template", "A path template is not of the form `/a/{*}/b/{**}`. The rule fails closed."),
    code(
        "WEFT-2511",
        "experimental attribute",
        "A condition looks at an attribute of an Envoy filter (`experimental.*`). An ALLOW rule with it never matches; for a DENY rule it always does.",
    ),
    code("WEFT-2512", "issuer missing", "A JWT rule has no issuer. It believes no token."),
    code("WEFT-2513", "selector beside targetRefs", "A policy has a selector and targetRefs. The selector is ignored."),
    code("WEFT-2514", "class target elsewhere", "A policy for a GatewayClass must be in the root namespace. It protects nothing."),
    code("WEFT-2601", "telemetry scope taken", "Two Telemetry objects have the same scope. The older wins; the younger has no effect."),
    code(
        "WEFT-2602",
        "unknown telemetry provider",
        "A Telemetry names a provider that MeshConfig's `extensionProviders` does not have. It is left out.",
    ),
    code(
        "WEFT-2603",
        "bad log format",
        "A format has an operator that Weft does not know, or cannot be read. Istio's default format is used.",
    ),
    code("WEFT-2604", "bad expression", "A CEL expression cannot be read. A filter lets everything through, a label is left as it is."),
    code("WEFT-2605", "attribute without value", "A CEL expression reads an attribute that Weft has no value for. It is missing there."),
    code("WEFT-2606", "telemetry part unusable", "A part of a Telemetry cannot be used as it is written; the message says which."),
    code("WEFT-2607", "provider of another kind", "A Telemetry names a provider for something that it is not for. It is left out."),
];

/// The row of a code, if this crate has it.
pub fn explain(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|row| row.code.eq_ignore_ascii_case(code))
}

fn did_you_mean(found: Diagnostic, near: Option<&str>) -> Diagnostic {
    match near {
        Some(near) => found.fix(format!("did you mean {near}?")),
        None => found,
    }
}

pub(crate) fn failover_without_detection(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2106", at, "failover by locality needs outlierDetection, so all endpoints are used alike")
        .fix("add outlierDetection to the same traffic policy")
}
pub(crate) fn balancer_excludes(at: Origin, what: &str, wins: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2107", at, format!("{what} exclude each other; {wins} counts"))
}
pub(crate) fn shares_not_whole(at: Origin, from: &str, sum: u64) -> Diagnostic {
    Diagnostic::warning("WEFT-2108", at, format!("the shares for {} add up to {sum}, not 100; they are used in proportion", quote(from)))
}
pub(crate) fn bad_table_size(at: Origin, size: u32) -> Diagnostic {
    Diagnostic::warning("WEFT-2109", at, format!("{size} is not a prime below 5000011; 65537 is used"))
}
pub(crate) fn hash_without_key(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2110", at, "consistentHash does not say what to hash; least request is used")
        .fix("add httpHeaderName, httpCookie, httpQueryParameterName or useSourceIp")
}
pub(crate) fn bad_failover(at: Origin, from: &str, to: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2111", at, format!("a failover from {} to {} never happens", quote(from), quote(to))).fix("name two regions")
}
pub(crate) fn warmup_without_effect(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2112", at, "only LEAST_REQUEST and ROUND_ROBIN warm endpoints up")
}
pub(crate) fn backend_policy_target(at: Origin, kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2113", at, format!("no {kind} {} in this namespace", quote(name))).fix("name a Service or a ServiceEntry")
}
pub(crate) fn backend_policy_twice(at: Origin, host: &str, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2114", at, format!("{host} already has {first}, which is older and counts"))
}
pub(crate) fn health_check_without_probe(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2115", at, "healthCheck needs exactly one of http, tcp and grpc; nothing is checked")
}
pub(crate) fn unknown_host(at: Origin, host: &str, near: Option<&str>) -> Diagnostic {
    let found = Diagnostic::error("WEFT-2001", at, format!("no service stands for host {}; its requests get 503", quote(host)));
    match near {
        Some(_) => did_you_mean(found, near),
        None => found.fix("start the workload, or declare a Service or ServiceEntry of that name"),
    }
}
pub(crate) fn unknown_subset(at: Origin, host: &str, subset: &str, known: &[String]) -> Diagnostic {
    let found =
        Diagnostic::error("WEFT-2002", at, format!("no DestinationRule defines subset {} of {host}; its requests get 503", quote(subset)));
    match known {
        [] => found.fix(format!("add a DestinationRule for {host} with subset {subset}")),
        known => found.fix(format!("use one of {}", known.join(", "))),
    }
}
pub(crate) fn unknown_port(at: Origin, host: &str, port: u16, known: &[ServicePort]) -> Diagnostic {
    let ports: Vec<String> = known.iter().map(|p| p.number.to_string()).collect();
    Diagnostic::error("WEFT-2003", at, format!("service {host} has no port {port}")).fix(format!("use one of {}", ports.join(", ")))
}
pub(crate) fn bad_host(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2004", at, why)
}
pub(crate) fn host_already_ruled(at: Origin, host: &str, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2005", at, format!("{host} is already ruled by {first}, which is older and wins"))
        .fix("merge the rules into one VirtualService")
}
pub(crate) fn unknown_gateway(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2006", at, format!("no Gateway {name}")).fix("write namespace/name, or `mesh` for all sidecars")
}
pub(crate) fn empty_match(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2007", at, "the match asks nothing, so it matches every request").fix("leave out `match`, or add a condition")
}
pub(crate) fn bad_pattern(at: Origin, text: &str, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2008", at, format!("{} is not a regular expression: {why}; the match is left out", quote(text)))
}
pub(crate) fn delegate_unusable(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2009", at, format!("{why}; the rule is left out"))
}
pub(crate) fn rule_without_target(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2010", at, "the rule has no route, redirect or directResponse; its requests get 503")
}
pub(crate) fn bad_header(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2011", at, format!("header {} has a name or value that HTTP does not allow; the edit is left out", quote(name)))
}
pub(crate) fn service_twice(at: Origin, host: &str, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2012", at, format!("{host} is already declared by {first}, which wins"))
}
pub(crate) fn address_twice(at: Origin, address: IpAddr, host: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2013", at, format!("address {address} already belongs to {host}"))
}
pub(crate) fn no_address_left(at: Origin, host: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2014", at, format!("no virtual address is left for {host}"))
}
pub(crate) fn no_such_target_port(at: Origin, target: &str, registered: &RegisteredWorkload) -> Diagnostic {
    let ports: Vec<String> = registered.ports.iter().map(|p| p.port.to_string()).collect();
    let name = &registered.workload.name;
    let known = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
    Diagnostic::warning(
        "WEFT-2015",
        at,
        format!("workload {name} has no port {target} (registered: {known}), so it gets no traffic from here"),
    )
    .fix(match target.parse::<u16>() {
        Ok(port) => format!("start it with --port {port}, or set targetPort"),
        Err(_) => format!("declare a container port named {target} for it, or set targetPort to a number"),
    })
}
pub(crate) fn workload_not_selected(at: Origin, host: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2016", at, format!("service {host} exists, but its selector does not choose this workload"))
        .fix("start the workload with the labels that the service selects")
}
pub(crate) fn endpoints_not_used(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2017", at, "endpoints are not used with resolution NONE").fix("set resolution: STATIC or DNS")
}
pub(crate) fn bad_address(at: Origin, address: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2018", at, format!("{} is not an address that Weft can use", quote(address)))
}
pub(crate) fn host_without_service(at: Origin, host: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2019", at, format!("{host} is no service of the mesh, so the rules have no effect yet"))
        .fix("start the workload, or declare a Service or ServiceEntry of that name")
}
pub(crate) fn unreachable_rule(at: Origin, line: u32) -> Diagnostic {
    Diagnostic::warning("WEFT-2020", at, format!("the rule is never reached: the one on line {line} matches every request"))
        .fix("move the rule that matches everything to the end")
}
pub(crate) fn rule_dropped(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2021", at, format!("the rule is left out: {why}"))
}
pub(crate) fn route_beside(at: Origin, action: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2022", at, format!("the rule has a route beside a {action}; the route is not used"))
}
pub(crate) fn no_weight(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2023", at, "all weights are 0, so the requests get 503").fix("give a destination a weight")
}
pub(crate) fn ignored_header_match(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2024", at, format!("a header condition on {name} is ignored"))
        .fix(format!("use the field `{name}` of the match"))
}
pub(crate) fn bad_claim(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2025", at, format!("{} is no claim; the match is left out", quote(name)))
        .fix("write @request.auth.claims.name or @request.auth.claims[name][nested]")
}
pub(crate) fn prefix_rewrite_without_prefix(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2027", at, "prefixRewrite needs one prefix that all matches share; the path is kept")
}
pub(crate) fn bad_redirect_status(at: Origin, status: u16) -> Diagnostic {
    Diagnostic::warning("WEFT-2028", at, format!("{status} is not a status for redirects")).fix("use 301, 302, 303, 307 or 308")
}
pub(crate) fn fault_without_share(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2029", at, "a fault without percentage applies to no request").fix("add percentage: {value: 100}")
}
pub(crate) fn bad_grpc_status(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2030", at, format!("{} is not a gRPC status such as UNAVAILABLE; the fault is left out", quote(name)))
}
pub(crate) fn unknown_retry_condition(at: Origin, word: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2031", at, format!("retryOn: {} is not a condition that Weft knows; it is left out", quote(word)))
}
pub(crate) fn tls_without_sni(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2032", at, "a TLS rule needs sniHosts; the rule is left out")
}
pub(crate) fn no_common_host(at: Origin, gateway: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2033", at, format!("shares no host with the servers of Gateway {gateway}, so it has no effect there"))
}
pub(crate) fn second_catch_all(at: Origin, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2034", at, format!("the rule matches everything, as {first} does, which is older and wins"))
}
pub(crate) fn rule_for_unknown_host(at: Origin, host: &str, near: Option<&str>) -> Diagnostic {
    let found = Diagnostic::warning("WEFT-2101", at, format!("{} is no service, so the rule has no effect yet", quote(host)));
    did_you_mean(found, near)
}
pub(crate) fn subset_twice(at: Origin, subset: &str, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2102", at, format!("subset {} is already defined by {first}, which wins", quote(subset)))
}
pub(crate) fn policy_twice(at: Origin, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2103", at, format!("{first} already has a trafficPolicy for the host and wins"))
}
pub(crate) fn subset_without_endpoints(at: Origin, subset: &str, host: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2104", at, format!("no running endpoint of {host} has the labels of subset {}", quote(subset)))
}
pub(crate) fn plain_text_to_strict(at: Origin, host: &str, strict: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2105", at, format!("asks for plain text towards {host}, which {strict} refuses"))
        .fix("remove tls.mode: DISABLE, or make the workload's mode PERMISSIVE")
}
pub(crate) fn policy_selects_nothing(at: Origin, selector: &weft_model::Labels) -> Diagnostic {
    let labels: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    Diagnostic::info("WEFT-2207", at, format!("no workload has {}, so the policy protects nothing", labels.join(", ")))
}
pub(crate) fn policy_fails_closed(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2201", at, format!("{why}; what it might refuse is refused"))
}
pub(crate) fn undecidable(at: Origin, what: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2203", at, format!("{what} cannot be decided: an ALLOW rule with it never matches, a DENY rule always may"))
}
pub(crate) fn policy_target_not_found(at: Origin, kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2204", at, format!("no {kind} {name} in the policy's namespace: the policy protects nothing there"))
}
pub(crate) fn limit_target_not_found(at: Origin, kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2450", at, format!("no {kind} {name} in the policy's namespace: the policy has no effect there"))
        .fix("name a Service, HTTPRoute, GRPCRoute, VirtualService or Gateway of the same namespace")
}
pub(crate) fn limit_unusable(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2451", at, format!("{why}; this part of the policy is left out"))
}
pub(crate) fn limits_nothing(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2452", at, "the policy has no part that can be used, so it limits nothing")
}
pub(crate) fn burst_of_global(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2453", at, "a global limit counts in windows: `burst` is ignored").fix("leave `burst` out")
}
pub(crate) fn deny_without_rules(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2205", at, "a DENY policy without rules denies nothing").fix("write `rules: [{}]` to deny everything")
}
pub(crate) fn bad_port(at: Origin, port: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2206", at, format!("{} is not a port; the rule fails closed", quote(port)))
}
pub(crate) fn no_keys(at: Origin, url: &str, why: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2501", at, format!("no keys from {url}: {why}; tokens of the issuer are refused"))
}
pub(crate) fn bad_jwks(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2502", at, format!("jwks cannot be used: {why}; tokens of the issuer are refused"))
}
pub(crate) fn unknown_provider(at: Origin, name: &str, known: &[&str]) -> Diagnostic {
    let known = if known.is_empty() { "none is defined".to_owned() } else { format!("there are {}", known.join(", ")) };
    Diagnostic::error("WEFT-2503", at, format!("no extension provider {} ({known}); what the policy asks about is refused", quote(name)))
        .fix("define it in extensionProviders of the ConfigMap istio, key mesh")
}
pub(crate) fn provider_not_found(at: Origin, host: &str, port: u16) -> Diagnostic {
    Diagnostic::error("WEFT-2504", at, format!("no service {host} with port {port}: the provider cannot be asked"))
}
pub(crate) fn mesh_config_elsewhere(at: Origin, root: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2505", at, format!("MeshConfig is read in namespace {root} only; it is ignored here"))
}
pub(crate) fn bad_output_header(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2506", at, format!("header {} cannot carry a claim; it is left out", quote(name)))
}
pub(crate) fn two_key_sources(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2507", at, "jwks and jwksUri are both given; jwks is used")
}
pub(crate) fn bad_service_accounts(at: Origin, name: Option<&str>) -> Diagnostic {
    let what = name.map_or("stand beside principals or namespaces".to_owned(), |name| format!("hold {}", quote(name)));
    Diagnostic::error("WEFT-2508", at, format!("serviceAccounts {what}, which is not allowed; the source fails closed"))
}
pub(crate) fn bad_error_status(at: Origin, text: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2509", at, format!("statusOnError {} is not a status from 400 to 599; 403 is used", quote(text)))
}
pub(crate) fn bad_path_template(at: Origin, text: &str, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2510", at, format!("path {}: {why}; the rule fails closed", quote(text)))
}
pub(crate) fn experimental_attribute(at: Origin, key: &str) -> Diagnostic {
    Diagnostic::error(
        "WEFT-2511",
        at,
        format!("{} looks into an Envoy filter: an ALLOW rule with it never matches, a DENY rule always may", quote(key)),
    )
}
pub(crate) fn issuer_missing(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2512", at, "the rule has no issuer, so it believes no token")
}
pub(crate) fn selector_beside_targets(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2513", at, "selector and targetRefs are both given; the selector is ignored")
}
pub(crate) fn class_target_elsewhere(at: Origin, root: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2514", at, format!("a policy for a GatewayClass must be in namespace {root}; it protects nothing here"))
}
pub(crate) fn telemetry_twice(at: Origin, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2601", at, format!("{first} has the same scope, is older and wins"))
}
pub(crate) fn provider_unknown(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2602", at, format!("there is no provider {}", quote(name)))
        .fix("add it to extensionProviders of MeshConfig (ConfigMap istio in the root namespace)")
}
pub(crate) fn bad_log_format(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2603", at, format!("the format cannot be used: {why}"))
}
pub(crate) fn bad_expression(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2604", at, format!("the expression cannot be read: {why}"))
}
pub(crate) fn attribute_unknown(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2605", at, format!("Weft has no value for {name}: it is missing in the expression"))
}
pub(crate) fn telemetry_unusable(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2606", at, why)
}
pub(crate) fn provider_unfit(at: Origin, name: &str, what: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2607", at, format!("provider {} is not for {what}", quote(name)))
}
pub(crate) fn peer_authentication_twice(at: Origin, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2301", at, format!("{first} has the same scope, is older and wins"))
}
pub(crate) fn root_selector_ignored(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2302", at, "a PeerAuthentication with a selector in the root namespace is ignored")
        .fix("put it into the namespace of the workloads")
}
pub(crate) fn port_modes_without_selector(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2303", at, "portLevelMtls needs a selector; it is ignored")
}
pub(crate) fn delegate_beside(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2310", at, "the rule delegates; its route, redirect or directResponse is not used")
}
pub(crate) fn delegate_outside(at: Origin, root: &Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2311", at, format!("the rule is left out where {root} delegates: {why}"))
}
pub(crate) fn cors_any_with_credentials(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2312", at, "every origin may send credentials").fix("name the origins, or remove allowCredentials")
}
pub(crate) fn too_many_attempts(at: Origin, attempts: u32, max: u32) -> Diagnostic {
    Diagnostic::warning("WEFT-2313", at, format!("{attempts} retries are cut to {max}"))
}
pub(crate) fn retriable_headers_unnamed(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2314", at, "retriable-headers names no header, so it is left out")
        .fix("name them in retry.retriableHeaders of a RoutePolicy")
}
pub(crate) fn retriable_codes_unnamed(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2315", at, "retriable-status-codes names no code")
        .fix("add codes to the list, e.g. retriable-status-codes,503")
}
pub(crate) fn http3_condition(at: Origin) -> Diagnostic {
    Diagnostic::info("WEFT-2316", at, "http3-post-connect-failure never holds: upstreams are not called over HTTP/3")
}
pub(crate) fn body_too_long(at: Origin, max: usize) -> Diagnostic {
    Diagnostic::error("WEFT-2317", at, format!("the body is longer than {max} bytes and is cut"))
}
pub(crate) fn operator_as_text(at: Origin, name: &str) -> Diagnostic {
    Diagnostic::warning(
        "WEFT-2319",
        at,
        format!("the value of header {} is sent as it stands: operators of Envoy are not evaluated", quote(name)),
    )
}
pub(crate) fn route_policy_target(at: Origin, kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2320", at, format!("no {kind} {name} (or no rule of that name) in the policy's namespace"))
        .fix("name an HTTPRoute, GRPCRoute, VirtualService or Service, and its rule in sectionName")
}
pub(crate) fn route_policy_twice(at: Origin, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2321", at, format!("{first} is attached to the same object, is older and wins"))
}
pub(crate) fn route_policy_unusable(at: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2322", at, format!("{why}; it is left out"))
}
pub(crate) fn unknown_fallback_condition(at: Origin, word: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2323", at, format!("fallback.on: {} is not a failure; it is left out", quote(word)))
        .fix("use no-endpoint, connect-failure, reset, timeout, overflow, 5xx or a status code")
}
pub(crate) fn body_not_base64(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2318", at, "bytes must be base64; the body is empty")
}
pub(crate) fn no_certificate(at: Origin, wanted: &str) -> Diagnostic {
    let wanted = if wanted.is_empty() { "none is named" } else { wanted };
    Diagnostic::error("WEFT-2410", at, format!("no usable TLS Secret ({wanted}); the listener is not opened"))
        .fix("apply the Secret with tls.crt and tls.key, in the gateway's namespace")
}
pub(crate) fn unknown_listener_protocol(at: Origin, word: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2411", at, format!("protocol {} is not served; the listener is not opened", quote(word)))
}
pub(crate) fn unknown_gateway_class(at: Origin, class: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2401", at, format!("no GatewayClass {}; the Gateway is left alone", quote(class)))
        .fix("write gatewayClassName: weft, or apply the GatewayClass")
}
pub(crate) fn parent_not_found(at: Origin, kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2402", at, format!("no {kind} {} to attach to", name.trim()))
}
pub(crate) fn not_allowed_by_listener(at: Origin, gateway: &str, namespace: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2403", at, format!("no listener of Gateway {gateway} takes routes of this kind from namespace {namespace}"))
        .fix("set allowedRoutes of the listener, e.g. namespaces: {from: All}")
}
pub(crate) fn no_matching_hostname(at: Origin, gateway: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2404", at, format!("the route's hostnames and those of Gateway {gateway} have nothing in common"))
}
pub(crate) fn backend_not_found(at: Origin, host: &str, near: Option<&str>) -> Diagnostic {
    let found = Diagnostic::error("WEFT-2405", at, format!("no service {host}; its share of the requests gets 500"));
    did_you_mean(found, near)
}
pub(crate) fn not_granted(at: Origin, kind: &str, namespace: &str, name: &str, from: &str, own: &str) -> Diagnostic {
    let message = format!("no ReferenceGrant in {namespace} lets a {from} of {own} refer to {kind} {name}");
    Diagnostic::error("WEFT-2406", at, message).fix(format!("apply a ReferenceGrant in {namespace} from {from} in {own} to {kind}"))
}
pub(crate) fn backend_kind_unsupported(at: Origin, group: &str, kind: &str) -> Diagnostic {
    let dot = if group.is_empty() { "" } else { "." };
    Diagnostic::error("WEFT-2407", at, format!("a backend of kind {kind}{dot}{group} is not supported; its share of the requests gets 500"))
}
pub(crate) fn filter_unsupported(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2408", at, "the filter is not supported, so that requests get 500").fix("remove the filter")
}
pub(crate) fn virtual_service_wins(at: Origin, host: &str, winner: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2409", at, format!("{winner} rules {host} and goes before this route, which has no effect in the mesh"))
        .fix("use one of the two APIs for the host")
}
pub(crate) fn rule_without_backend(at: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2412", at, "the rule has no backendRefs; its requests get 500")
}
pub(crate) fn listener_conflict(at: Origin, rival: &str) -> Diagnostic {
    Diagnostic::error(
        "WEFT-2413",
        at,
        format!("the listener has the port and hostname of listener {rival}, or a protocol that excludes it; it is not opened"),
    )
}
pub(crate) fn port_required(at: Origin, host: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2003", at, format!("service {host} has several ports; the reference must name one")).fix("add port")
}
pub(crate) fn bad_annotation(at: Origin, name: &str, value: &str, allowed: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2250", at, format!("annotation {name} is {}, but must be {allowed}", quote(value)))
}
pub(crate) fn unknown_cipher_suite(at: Origin, name: &str, known: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2251", at, format!("cipher suite {} is left out", quote(name))).fix(format!("use some of {known}"))
}
pub(crate) fn no_client_roots(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2252", at, "no roots to check client certificates with; the listener is not opened")
        .fix("apply a Secret with ca.crt: the named one, or that of the certificate with -cacert at its end")
}
pub(crate) fn no_roots(at: Origin, kind: &str, name: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2253", at, format!("no {kind} {name} with ca.crt"))
}
pub(crate) fn credential_missing(at: Origin, what: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2254", at, format!("{what}; nothing is sent to the host")).fix("apply the Secret, or name another one")
}
pub(crate) fn backend_tls_target(at: Origin, target: &str) -> Diagnostic {
    Diagnostic::error("WEFT-2255", at, format!("no {target} to protect"))
}
pub(crate) fn backend_tls_twice(at: Origin, first: &Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-2256", at, format!("{first} is for the same port, is older and wins"))
}
pub(crate) fn no_trust(at: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-2257", at, "neither caCertificateRefs nor wellKnownCACertificates is given; nothing is sent to the backend")
}
pub(crate) fn needs_wildcard(at: Origin, host: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-2258", at, format!("{host} is no wildcard: it is resolved as with resolution DNS"))
}

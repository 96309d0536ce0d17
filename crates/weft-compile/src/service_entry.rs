//! ServiceEntry: services that the registry does not know by itself.

use crate::{
    candidates::{Candidates, Target, WrittenWorkload},
    catalog::{Catalog, blank_service, endpoints_of, named_endpoint},
    diag,
    link::Linker,
    mesh::{MeshService, Resolution, Visibility},
};
use ipnet::IpNet;
use std::net::IpAddr;
use weft_api::{Document, Resource, istio};
use weft_model::{DnsTrust, DnsUse, HostPattern, Location, Protocol, ServicePort};

/// Annotation by which the names of an entry may stand for addresses of the proxy's own machine and link.
const DNS_TRUST_ANNOTATION: &str = "weft.dev/dns-trust";

/// Adds the services of all entries.
pub(crate) fn link(linker: &mut Linker<'_>, candidates: &Candidates, catalog: &mut Catalog) {
    for (_, document, entry) in linker.documents(|r| if let Resource::ServiceEntry(e) = r { Some(e) } else { None }) {
        for host in &entry.hosts {
            let at = host.origin(&document.origin);
            match host.value.parse::<HostPattern>() {
                Ok(HostPattern::Any) => linker.report(diag::bad_host(at, "a service entry cannot stand for every host")),
                Err(why) => linker.report(diag::bad_host(at, &why.to_string())),
                Ok(pattern) => {
                    let made = service(linker, candidates, document, entry, &pattern);
                    blocks(linker, catalog, document, entry, &pattern);
                    catalog.add(linker, made);
                }
            }
        }
    }
}

/// The service of one host of an entry.
fn service(
    linker: &mut Linker<'_>,
    candidates: &Candidates,
    document: &Document,
    entry: &istio::ServiceEntry,
    pattern: &HostPattern,
) -> MeshService {
    let host = pattern.to_string();
    let namespace = document.meta.namespace.as_str();
    let mut made = blank_service(&host, &host, namespace, document.origin.clone());
    made.visibility = Visibility::read(entry.export_to.iter().map(String::as_str), namespace);
    made.alternative_names = entry.subject_alt_names.clone();
    made.selector = entry.workload_selector.as_ref().map(|s| s.labels.clone());
    if entry.location != Some(istio::ServiceEntryLocation::MeshInternal) {
        made.service.location = Location::External;
    }
    made.resolution = match entry.resolution {
        None | Some(istio::Resolution::None) => Resolution::Passthrough,
        Some(istio::Resolution::Static) => Resolution::Static,
        Some(istio::Resolution::Dns | istio::Resolution::DnsRoundRobin | istio::Resolution::DynamicDns) => Resolution::Dns,
    };
    if entry.resolution == Some(istio::Resolution::DnsRoundRobin) {
        made.dns = DnsUse::Logical;
    }
    if entry.resolution == Some(istio::Resolution::DynamicDns) && matches!(pattern, HostPattern::Exact(_)) {
        linker.report(diag::needs_wildcard(document.origin.clone(), &host));
    }
    let declared = document.meta.annotations.get(DNS_TRUST_ANNOTATION).map(String::as_str);
    if made.service.location == Location::Internal || declared == Some("any") {
        made.dns_trust = DnsTrust::Any;
    } else if let Some(other) = declared.filter(|d| *d != "outside") {
        linker.report(diag::bad_annotation(document.origin.clone(), DNS_TRUST_ANNOTATION, other, "any or outside"));
    }
    made.service.addresses = entry.addresses.iter().filter_map(|a| single_address(&a.value)).collect();
    for port in &entry.ports {
        let declared = port.protocol.as_ref().and_then(|p| Protocol::from_name(&p.value));
        let protocol = declared.unwrap_or_else(|| Protocol::select(None, &port.name, port.number, "TCP"));
        made.service.ports.push(ServicePort { number: port.number, name: port.name.clone(), protocol });
    }
    endpoints(linker, candidates, document, entry, &mut made);
    made
}

fn endpoints(linker: &mut Linker<'_>, candidates: &Candidates, document: &Document, entry: &istio::ServiceEntry, made: &mut MeshService) {
    let namespace = document.meta.namespace.as_str();
    if made.resolution == Resolution::Passthrough && !entry.endpoints.is_empty() {
        let at = entry.endpoints.first().map_or(document.origin.clone(), |e| e.origin(&document.origin));
        linker.report(diag::endpoints_not_used(at));
    }
    for port in &entry.ports {
        let target = Target { number: Some(port.target_port.unwrap_or(port.number)), name: None, port_name: Some(&port.name) };
        let mut found = Vec::new();
        for written in entry.endpoints.iter().filter(|_| made.resolution != Resolution::Passthrough) {
            let at = written.origin(&document.origin);
            let made = WrittenWorkload::from_entry(&document.meta.name, namespace, &written.value, &Default::default());
            found.extend(made.checked(linker, &at).and_then(|w| w.endpoint(&target, port.number)));
        }
        if let Some(selector) = entry.workload_selector.as_ref().filter(|_| entry.endpoints.is_empty()) {
            let chosen = candidates.select(namespace, &selector.labels);
            let at = document.origin.at(port.line, port.field.clone());
            found.extend(endpoints_of(linker, made, port.number, &target, chosen, &at));
        }
        let by_name = match (&made.pattern, made.resolution) {
            // A concrete name is resolved by the proxy even with NONE: a captured program never saw its real address.
            (HostPattern::Exact(_), Resolution::Passthrough) => entry.addresses.is_empty(),
            (HostPattern::Exact(_), Resolution::Dns) => true,
            _ => false,
        };
        if found.is_empty() && by_name && entry.workload_selector.is_none() {
            found.push(named_endpoint(made.service.host.as_str(), port.target_port.unwrap_or(port.number)));
        }
        made.endpoints.insert(port.number, found);
    }
}

/// `10.0.0.1` and `10.0.0.1/32` are virtual addresses.
fn single_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<IpNet>().ok().filter(|n| n.prefix_len() == n.max_prefix_len()).map(|n| n.addr()))
}

/// Wider blocks lead connections to the service by address.
fn blocks(linker: &mut Linker<'_>, catalog: &mut Catalog, document: &Document, entry: &istio::ServiceEntry, pattern: &HostPattern) {
    for address in &entry.addresses {
        match address.value.parse::<IpNet>() {
            Ok(block) if block.prefix_len() < block.max_prefix_len() => catalog.blocks.push((block, pattern.to_string())),
            Ok(_) => {}
            Err(_) if single_address(&address.value).is_some() => {}
            Err(_) => linker.report(diag::bad_address(address.origin(&document.origin), &address.value)),
        }
    }
}

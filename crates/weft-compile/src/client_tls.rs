//! TLS towards hosts: DestinationRule `tls` and BackendTLSPolicy.

use crate::{diag, link::Linker, mesh::Mesh, secret};
use std::collections::BTreeMap;
use weft_api::{Document, Resource, Spanned, gateway_api, istio};
use weft_model::{KeyPair, Origin, Pem, TlsOrigination, UpstreamTls};

/// What is spoken towards a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientTls {
    pub(crate) mode: UpstreamTls,
    /// Server name; empty: the host.
    pub(crate) sni: String,
    /// With `Simple`.
    pub(crate) origination: Option<TlsOrigination>,
}

/// BackendTLSPolicies by service host and port; `None` is every port.
#[derive(Debug, Clone, Default)]
pub(crate) struct BackendPolicies {
    by_port: BTreeMap<(String, Option<u16>), (ClientTls, Origin)>,
}

impl BackendPolicies {
    /// The policy of a port: its own, else that of the whole service.
    pub(crate) fn find(&self, host: &str, port: u16) -> Option<&(ClientTls, Origin)> {
        self.by_port.get(&(host.to_owned(), Some(port))).or_else(|| self.by_port.get(&(host.to_owned(), None)))
    }
}

/// The `tls` of a DestinationRule. What is named and does not exist closes the way: nothing is sent unchecked or unproved.
pub(crate) fn destination_rule(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::ClientTlsSettings>) -> ClientTls {
    let at = spec.origin(&document.origin);
    let sni = spec.sni.clone().unwrap_or_default();
    let mutual = match spec.mode {
        None | Some(istio::ClientTlsMode::Disable) => return ClientTls { mode: UpstreamTls::Disable, ..ClientTls::default() },
        Some(istio::ClientTlsMode::IstioMutual) => return ClientTls { mode: UpstreamTls::IstioMutual, sni, origination: None },
        Some(istio::ClientTlsMode::Simple) => false,
        Some(istio::ClientTlsMode::Mutual) => true,
    };
    let namespace = document.meta.namespace.as_str();
    let file = |path: &String| Pem::File { file: path.clone() };
    let mut made = TlsOrigination {
        ca: spec.ca_certificates.as_ref().map(file),
        crl: spec.ca_crl.as_ref().map(file),
        subject_alt_names: spec.subject_alt_names.clone(),
        insecure_skip_verify: spec.insecure_skip_verify == Some(true),
        ..TlsOrigination::default()
    };
    if let Some(name) = &spec.credential_name {
        let beside = format!("{name}-cacert");
        let roots = [beside.as_str(), name].into_iter().find_map(|n| secret::roots(linker, "Secret", namespace, n));
        made.ca = roots.or(made.ca);
        made.crl = secret::revoked(linker, namespace, &beside).or_else(|| secret::revoked(linker, namespace, name));
        if mutual {
            made.certificate = secret::key_pair(linker, namespace, name);
        }
        if made.certificate.is_none() && mutual || made.ca.is_none() && made.certificate.is_none() {
            made.missing = format!("no usable Secret {namespace}/{name}");
        }
    } else if mutual {
        match (&spec.client_certificate, &spec.private_key) {
            (Some(chain), Some(key)) => made.certificate = Some(KeyPair { certificate: file(chain), private_key: file(key) }),
            _ => made.missing = "MUTUAL without credentialName needs clientCertificate and privateKey".into(),
        }
    }
    if !made.missing.is_empty() {
        linker.report(diag::credential_missing(at, &made.missing));
    }
    ClientTls { mode: UpstreamTls::Simple, sni, origination: (made != TlsOrigination::default()).then_some(made) }
}

/// Links all BackendTLSPolicies.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (_, document, spec) in linker.documents(|r| if let Resource::BackendTlsPolicy(p) = r { Some(p) } else { None }) {
        let tls = backend_policy(linker, document, spec);
        for target in &spec.target_refs {
            let at = target.origin(&document.origin);
            let host = linker.mesh.settings.service_host(&target.name, &document.meta.namespace);
            let service = linker.mesh.service(&host, &document.meta.namespace).filter(|_| target.kind == "Service");
            let port = target.section_name.as_ref().map(|name| {
                let ports = service.into_iter().flat_map(|s| &s.service.ports);
                ports.clone().find(|p| p.name == *name).map(|p| p.number)
            });
            if service.is_none() || port == Some(None) {
                let section = target.section_name.as_deref().unwrap_or_default();
                linker.report(diag::backend_tls_target(at, format!("{} {host} {section}", target.kind).trim()));
                continue;
            }
            let policies = &mut linker.mesh.backend_tls.by_port;
            match policies.get(&(host.clone(), port.flatten())) {
                Some((_, first)) => {
                    let first = first.clone();
                    linker.report(diag::backend_tls_twice(at, &first));
                }
                None => drop(policies.insert((host, port.flatten()), (tls.clone(), document.origin.clone()))),
            }
        }
    }
}

fn backend_policy(linker: &mut Linker<'_>, document: &Document, spec: &gateway_api::BackendTlsPolicy) -> ClientTls {
    let (validation, at) = (&spec.validation, spec.validation.origin(&document.origin));
    let names = validation.subject_alt_names.iter().filter_map(|n| n.hostname.clone().or_else(|| n.uri.clone()));
    let mut made = TlsOrigination { subject_alt_names: names.collect(), ..TlsOrigination::default() };
    let mut roots = String::new();
    for reference in &validation.ca_certificate_refs {
        match secret::roots(linker, &reference.kind, &document.meta.namespace, &reference.name) {
            Some(Pem::Text(text)) => {
                roots.push_str(&text);
                roots.push('\n');
            }
            Some(Pem::File { .. }) | None => {
                linker.report(diag::no_roots(reference.origin(&document.origin), &reference.kind, &reference.name));
                made.missing = format!("no {} {}/{} with ca.crt", reference.kind, document.meta.namespace, reference.name);
            }
        }
    }
    if !roots.is_empty() {
        // One good reference is enough.
        made.missing = String::new();
        made.ca = Some(Pem::Text(roots));
    } else if validation.well_known_ca_certificates.is_none() && made.missing.is_empty() {
        linker.report(diag::no_trust(at));
        made.missing = "the BackendTLSPolicy names no CA certificates".into();
    }
    ClientTls { mode: UpstreamTls::Simple, sni: validation.hostname.value.clone(), origination: Some(made) }
}

impl Mesh {
    /// What is spoken towards a port: as the DestinationRule says, else as a BackendTLSPolicy says. A ServiceEntry's names hold where
    /// no others are given.
    pub(crate) fn client_tls(&self, rule: Option<ClientTls>, host: &str, port: u16, alternative_names: &[String]) -> ClientTls {
        let policy = || self.backend_tls.find(host, port).map(|(tls, _)| tls.clone());
        let mut tls = rule.or_else(policy).unwrap_or_default();
        if tls.mode == UpstreamTls::Simple && !alternative_names.is_empty() {
            let origination = tls.origination.get_or_insert_default();
            if origination.subject_alt_names.is_empty() {
                origination.subject_alt_names = alternative_names.to_vec();
            }
        }
        tls
    }
}

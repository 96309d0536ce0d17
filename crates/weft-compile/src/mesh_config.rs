//! MeshConfig: the settings of the whole mesh that a user writes (ConfigMap `istio` in the root namespace), in the model's form.

use crate::{diag, link::Linker};
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{
    CheckedBody, ClientCertificateDetails, ClusterName, ExternalAuthorization, ExternalProtocol, HostPattern, Origin, PathNormalization,
    ProxySettings, StringMatch,
};

/// Longest wait for a provider where nothing is written, in milliseconds (Istio's default).
const PROVIDER_TIMEOUT_MS: u64 = 600_000;
/// Status where a provider gives no answer and nothing is written.
const STATUS_ON_ERROR: u16 = 403;

/// Links it. Comes after services, before policies.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for document in linker.inputs.documents.iter() {
        let Resource::ConfigMap(map) = &document.resource else { continue };
        let Some(config) = &map.data.mesh else { continue };
        if document.meta.namespace != linker.mesh.settings.root_namespace {
            linker.report(diag::mesh_config_elsewhere(document.origin.clone(), &linker.mesh.settings.root_namespace));
            continue;
        }
        linker.mesh.trust_domain_aliases.clone_from(&config.trust_domain_aliases);
        let settings = settings(config, &document.origin);
        if settings != (ProxySettings { origin: document.origin.clone(), ..ProxySettings::default() }) {
            linker.mesh.proxy_settings = Some(settings);
        }
        for provider in &config.extension_providers {
            self::provider(linker, document, provider);
        }
    }
}

fn settings(config: &istio::MeshConfig, origin: &Origin) -> ProxySettings {
    use istio::{ForwardClientCertDetails as Details, PathNormalizationMode as Mode};
    let topology = config.default_config.as_ref().and_then(|d| d.gateway_topology.as_ref());
    let mode = config.path_normalization.as_ref().and_then(|p| p.normalization);
    ProxySettings {
        path_normalization: match mode {
            None | Some(Mode::Default | Mode::Base) => PathNormalization::Base,
            Some(Mode::None) => PathNormalization::None,
            Some(Mode::MergeSlashes) => PathNormalization::MergeSlashes,
            Some(Mode::DecodeAndMergeSlashes) => PathNormalization::DecodeAndMergeSlashes,
            Some(Mode::Strict) => PathNormalization::Strict,
        },
        trusted_proxies: topology.and_then(|t| t.num_trusted_proxies).unwrap_or_default(),
        client_certificate_details: match topology.and_then(|t| t.forward_client_cert_details) {
            None | Some(Details::Undefined) => None,
            Some(Details::Sanitize) => Some(ClientCertificateDetails::Sanitize),
            Some(Details::ForwardOnly) => Some(ClientCertificateDetails::ForwardOnly),
            Some(Details::AppendForward) => Some(ClientCertificateDetails::AppendForward),
            Some(Details::SanitizeSet) => Some(ClientCertificateDetails::SanitizeSet),
            Some(Details::AlwaysForwardOnly) => Some(ClientCertificateDetails::AlwaysForwardOnly),
        },
        origin: origin.clone(),
    }
}

/// A provider of decisions; others (telemetry) are not this module's.
fn provider(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::MeshExtensionProvider>) {
    let at = spec.origin(&document.origin);
    let made = if let Some(http) = &spec.envoy_ext_authz_http {
        let lists = [&http.include_request_headers_in_check, &http.include_headers_in_check];
        ExternalAuthorization {
            protocol: ExternalProtocol::Http {
                path_prefix: http.path_prefix.clone().unwrap_or_default(),
                request_headers: lists.into_iter().flatten().map(|name| header(name)).collect(),
                additional_headers: http
                    .include_additional_headers_in_check
                    .iter()
                    .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
                    .collect(),
                to_upstream: http.headers_to_upstream_on_allow.iter().map(|name| header(name)).collect(),
                to_downstream_on_allow: http.headers_to_downstream_on_allow.iter().map(|name| header(name)).collect(),
                to_downstream_on_deny: http.headers_to_downstream_on_deny.iter().map(|name| header(name)).collect(),
            },
            cluster: cluster(linker, &http.service, http.port, &at),
            timeout_ms: http.timeout.map_or(PROVIDER_TIMEOUT_MS, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            fail_open: http.fail_open,
            clear_route_cache: http.clear_route_cache,
            status_on_error: status(linker, http.status_on_error.as_deref(), &at),
            body: http.include_request_body_in_check.as_ref().map(body),
            name: spec.name.clone(),
            origin: at,
        }
    } else if let Some(grpc) = &spec.envoy_ext_authz_grpc {
        ExternalAuthorization {
            protocol: ExternalProtocol::Grpc { request_headers: Vec::new() },
            cluster: cluster(linker, &grpc.service, grpc.port, &at),
            timeout_ms: grpc.timeout.map_or(PROVIDER_TIMEOUT_MS, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            fail_open: grpc.fail_open,
            clear_route_cache: grpc.clear_route_cache,
            status_on_error: status(linker, grpc.status_on_error.as_deref(), &at),
            body: grpc.include_request_body_in_check.as_ref().map(body),
            name: spec.name.clone(),
            origin: at,
        }
    } else {
        return;
    };
    linker.mesh.providers.insert(spec.name.clone(), made);
}

/// Names of headers, with `*` at one end.
fn header(name: &str) -> StringMatch {
    StringMatch::from_wildcard(&name.to_ascii_lowercase())
}

fn body(spec: &istio::ExtAuthzBody) -> CheckedBody {
    CheckedBody { bytes_max: spec.max_request_bytes, partial: spec.allow_partial_message, as_bytes: spec.pack_as_bytes }
}

fn status(linker: &mut Linker<'_>, text: Option<&str>, at: &Origin) -> u16 {
    let Some(text) = text else { return STATUS_ON_ERROR };
    match text.parse::<u16>() {
        Ok(status) if (400..600).contains(&status) => status,
        _ => {
            linker.report(diag::bad_error_status(at.clone(), text));
            STATUS_ON_ERROR
        }
    }
}

/// The whole service, by `[namespace/]host`.
pub(crate) fn cluster(linker: &mut Linker<'_>, service: &str, port: u16, at: &Origin) -> Option<ClusterName> {
    let host = service.rsplit_once('/').map_or(service, |(_, host)| host);
    let namespace = service.split_once('/').map_or(linker.mesh.settings.root_namespace.clone(), |(namespace, _)| namespace.to_owned());
    let Some(HostPattern::Exact(full)) = linker.full_host(host, &namespace, at) else { return None };
    let known = linker.mesh.services.get(full.as_str()).is_some_and(|s| s.iter().any(|s| s.port(port).is_some()));
    if !known {
        linker.report(diag::provider_not_found(at.clone(), full.as_str(), port));
        return None;
    }
    Some(ClusterName { host: full.to_string(), port, subset: String::new() })
}

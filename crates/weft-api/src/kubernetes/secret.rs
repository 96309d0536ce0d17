//! `Secret`: certificates and keys that gateways present; `ConfigMap`: roots.

use std::collections::BTreeMap;

object! {
    /// `v1 Secret`: for gateways, with `tls.crt` and `tls.key` (or Istio's `cert` and `key`).
    pub struct Secret {
        /// E.g. `kubernetes.io/tls`.
        kind: Option<String> = "type",
        /// Values in base64.
        data: BTreeMap<String, String> = "data",
        /// Values as text; they win over `data`.
        string_data: BTreeMap<String, String> = "stringData",
    }
    inert ["apiVersion", "kind", "metadata", "immutable"]
}

object! {
    /// `v1 ConfigMap`: with `ca.crt`, the roots that a BackendTLSPolicy or a Gateway names.
    pub struct ConfigMap {
        /// Values as text.
        data: BTreeMap<String, String> = "data",
        /// Values in base64.
        binary_data: BTreeMap<String, String> = "binaryData",
    }
    inert ["apiVersion", "kind", "metadata", "immutable", "binaryData"]
}

//! `Secret`: certificates and keys that gateways present.

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

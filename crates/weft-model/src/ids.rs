//! Names that parse: SPIFFE identities, host names and host patterns, resource names.
//!
//! A value of one of these types has been checked once and is never checked again.

use crate::limits::{HOSTNAME_BYTES_MAX, SPIFFE_ID_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a text is not the name it should be. The message says what was found and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

/// An error of the same kind for the names that live beside their concept.
pub(crate) fn ids_error(message: String) -> NameError {
    NameError(message)
}

/// Implements the string conversions of a type that has `FromStr<Err = NameError>` and `Display`.
macro_rules! string_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

/// A workload identity: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
///
/// Source: SPIFFE-ID specification and Istio's path convention. Compared whole, never by prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    /// The id without its scheme, so that policies compare it without making it anew; the parts are slices of it.
    principal: String,
    trust_domain_bytes: u16,
    namespace_bytes: u16,
}
string_form!(SpiffeId);

impl SpiffeId {
    /// Builds an identity from its three parts.
    ///
    /// # Errors
    /// When a part is empty or has a character outside `[a-zA-Z0-9._-]`, is `.` or `..`, or the whole is too long.
    pub fn new(trust_domain: &str, namespace: &str, account: &str) -> Result<Self, NameError> {
        for (what, part) in [("trust domain", trust_domain), ("namespace", namespace), ("service account", account)] {
            let legal = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if part.is_empty() || part == "." || part == ".." || !legal {
                return Err(NameError(format!("{what} {part:?} of a SPIFFE ID may hold letters, digits, '.', '_' and '-' only")));
            }
        }
        if trust_domain.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NameError(format!("trust domain {trust_domain:?} must be in lower case")));
        }
        let principal = format!("{trust_domain}/ns/{namespace}/sa/{account}");
        if "spiffe://".len() + principal.len() > SPIFFE_ID_BYTES_MAX {
            return Err(NameError(format!("a SPIFFE ID may have {SPIFFE_ID_BYTES_MAX} bytes at most")));
        }
        let bytes = |part: &str| u16::try_from(part.len()).expect("the whole is shorter than that");
        Ok(Self { trust_domain_bytes: bytes(trust_domain), namespace_bytes: bytes(namespace), principal })
    }
    /// The trust domain, e.g. `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.principal[..usize::from(self.trust_domain_bytes)]
    }
    /// The namespace segment.
    pub fn namespace(&self) -> &str {
        let start = usize::from(self.trust_domain_bytes) + "/ns/".len();
        &self.principal[start..start + usize::from(self.namespace_bytes)]
    }
    /// The service-account segment.
    pub fn account(&self) -> &str {
        &self.principal[usize::from(self.trust_domain_bytes) + usize::from(self.namespace_bytes) + "/ns//sa/".len()..]
    }
    /// Istio's principal form: the id without its scheme, e.g. `cluster.local/ns/default/sa/reviews`.
    pub fn principal(&self) -> &str {
        &self.principal
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.principal)
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError(format!("{text:?} is not of the form spiffe://<trust-domain>/ns/<namespace>/sa/<account>"));
        let parts: Vec<&str> = text.strip_prefix("spiffe://").ok_or_else(wrong)?.split('/').collect();
        match parts.as_slice() {
            [domain, "ns", namespace, "sa", account] => Self::new(domain, namespace, account),
            _ => Err(wrong()),
        }
    }
}

/// A concrete DNS name or IP literal, in lower case, without a trailing dot or port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);
string_form!(Hostname);

impl Hostname {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Hostname {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'));
        match legal && !name.is_empty() && name.len() <= HOSTNAME_BYTES_MAX && name.split('.').all(|l| !l.is_empty()) {
            true => Ok(Self(name)),
            false => Err(NameError(format!("{text:?} is not a host name"))),
        }
    }
}

/// What a route, a server or a service entry accepts as host: a name, `*.suffix`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Hostname),
    /// Any host that ends in `.suffix`; the text kept is `.suffix` with its leading dot.
    Suffix(String),
    /// Every host.
    Any,
}
string_form!(HostPattern);

impl HostPattern {
    /// Does `host` (lower case, no port) match? A suffix needs at least one label in front (RFC 9525 §6.3 is stricter: one only).
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.as_str() == host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            Self::Any => true,
        }
    }
    /// Order of preference when several patterns match a host: exact first, then the longer suffix, then `*`. Larger wins.
    pub fn specificity(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Suffix(suffix) => suffix.len(),
            Self::Any => 0,
        }
    }
    /// The hosts that both accept, if any: the more specific of the two when one covers the other.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let (narrow, wide) = if self.specificity() >= other.specificity() { (self, other) } else { (other, self) };
        let covered = match narrow {
            Self::Exact(name) => wide.matches(name.as_str()),
            Self::Suffix(suffix) => matches!(wide, Self::Any) || matches!(wide, Self::Suffix(s) if suffix.ends_with(s.as_str())),
            Self::Any => true,
        };
        covered.then(|| narrow.clone())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(rest) if rest.starts_with('.') && rest.len() > 1 => {
                rest[1..].parse::<Hostname>().map(|name| Self::Suffix(format!(".{name}")))
            }
            Some(_) => Err(NameError(format!("{text:?}: a wildcard stands alone or before a dot, as in *.example.com"))),
            None => text.parse().map(Self::Exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_parse_whole_or_not_at_all() {
        let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/reviews".parse().expect("legal");
        assert_eq!(id.principal(), "cluster.local/ns/default/sa/reviews");
        for bad in [
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe://cluster.local/ns/../sa/b",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://u@cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:80/ns/a/sa/b",
            "spiffe://cluster.local/ns/a%2f/sa/b",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_patterns_match_and_intersect() {
        let p = |t: &str| t.parse::<HostPattern>().expect(t);
        assert!(p("*.example.com").matches("a.b.example.com"));
        assert!(!p("*.example.com").matches("example.com"));
        assert!(p("Example.COM.").matches("example.com"));
        assert_eq!(p("*.com").intersect(&p("*.example.com")), Some(p("*.example.com")));
        assert_eq!(p("a.example.com").intersect(&p("*.example.org")), None);
        assert!("a*.com".parse::<HostPattern>().is_err());
    }
}

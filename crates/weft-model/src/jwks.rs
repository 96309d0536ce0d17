//! Public keys of token issuers: JWK sets (RFC 7517), as far as they can check a signature.

use crate::{JwtAlgorithm, limits::JWKS_KEYS_MAX};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A public key. Its parts stay in base64url, as they were published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The only algorithm that it is for, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<JwtAlgorithm>,
    /// The key.
    pub material: KeyMaterial,
}

/// The numbers of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyMaterial {
    /// RSA: modulus and exponent.
    Rsa {
        /// Modulus.
        n: String,
        /// Exponent.
        e: String,
    },
    /// A point on P-256.
    P256 {
        /// Abscissa.
        x: String,
        /// Ordinate.
        y: String,
    },
    /// A point on P-384.
    P384 {
        /// Abscissa.
        x: String,
        /// Ordinate.
        y: String,
    },
    /// An Ed25519 key.
    Ed25519 {
        /// The key.
        x: String,
    },
}

impl Jwk {
    /// May it check signatures of this algorithm? The token's header never decides alone.
    pub fn allows(&self, algorithm: JwtAlgorithm) -> bool {
        use JwtAlgorithm::*;
        let fits = match self.material {
            KeyMaterial::Rsa { .. } => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            KeyMaterial::P256 { .. } => algorithm == ES256,
            KeyMaterial::P384 { .. } => algorithm == ES384,
            KeyMaterial::Ed25519 { .. } => algorithm == EdDSA,
        };
        fits && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// Reads a JWK set. Keys that cannot check a signature here (symmetric, for encryption, other curves) are left out.
///
/// # Errors
/// When it is no JWK set, or no key of it can be used.
pub fn read_jwks(text: &str) -> Result<Vec<Jwk>, String> {
    let set: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("not a JWK set: it has no list `keys`")?;
    let read: Vec<Jwk> = keys.iter().take(JWKS_KEYS_MAX).filter_map(key).collect();
    if read.is_empty() {
        return Err("none of its keys can check a signature (RSA, P-256, P-384 and Ed25519 can)".into());
    }
    Ok(read)
}

fn key(value: &Value) -> Option<Jwk> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let part = |name: &str| text(name).map(|t| t.trim_end_matches('=').to_owned()).filter(|t| is_base64url(t));
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let operations = value.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|list| !list.iter().any(|op| op == "verify")) {
        return None;
    }
    let material = match (text("kty")?, text("crv")) {
        ("RSA", _) => KeyMaterial::Rsa { n: part("n")?, e: part("e")? },
        ("EC", Some("P-256")) => KeyMaterial::P256 { x: part("x")?, y: part("y")? },
        ("EC", Some("P-384")) => KeyMaterial::P384 { x: part("x")?, y: part("y")? },
        ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519 { x: part("x")? },
        _ => return None,
    };
    let algorithm = match text("alg") {
        None => None,
        // A key for an algorithm that is not checked here is no key.
        Some(name) => Some(JwtAlgorithm::read(name)?),
    };
    Some(Jwk { kid: text("kid").map(str::to_owned), algorithm, material })
}

fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_for_signatures_are_kept() {
        let set = r#"{"keys":[
            {"kty":"oct","k":"c2VjcmV0","alg":"HS256"}, {"kty":"RSA","use":"enc","n":"AQ","e":"AQAB"}, {"kty":"EC","crv":"secp256k1","x":"AQ","y":"AQ"},
            {"kty":"RSA","kid":"a","n":"AQ","e":"AQAB","alg":"RS256"}, {"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}, {"kty":"RSA","n":"!","e":"AQAB"}
        ]}"#;
        let keys = read_jwks(set).expect("keys");
        assert_eq!(keys.len(), 2);
        assert!(keys[0].allows(JwtAlgorithm::RS256) && !keys[0].allows(JwtAlgorithm::RS384) && !keys[0].allows(JwtAlgorithm::ES256));
        assert!(keys[1].allows(JwtAlgorithm::ES256) && !keys[1].allows(JwtAlgorithm::RS256));
        for text in ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AQ"}]}"#] {
            assert!(read_jwks(text).is_err(), "{text}");
        }
    }
}

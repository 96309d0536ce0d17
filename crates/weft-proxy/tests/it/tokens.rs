//! An issuer of tokens, for tests.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(crate) const ISSUER: &str = "https://issuer.example";

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("made"));
static EC: LazyLock<EcdsaKeyPair> = LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("made"));
static ED: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().expect("made"));

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The issuer's public keys in the model's form.
pub(crate) fn keys() -> Value {
    let public = aws_lc_rs::signature::KeyPair::public_key(&*RSA);
    let point = EC.public_key().as_ref();
    json!([
        { "kid": "rsa", "algorithm": "RS256", "material": { "rsa": {
            "n": base64(public.modulus().big_endian_without_leading_zero()), "e": base64(public.exponent().big_endian_without_leading_zero()) } } },
        { "kid": "ec", "material": { "p256": { "x": base64(&point[1..33]), "y": base64(&point[33..65]) } } },
        { "kid": "ed", "material": { "ed25519": { "x": base64(ED.public_key().as_ref()) } } },
    ])
}

/// `n` of the RSA key: what an attacker would use as a symmetric secret.
pub(crate) fn public_modulus() -> Vec<u8> {
    aws_lc_rs::signature::KeyPair::public_key(&*RSA).modulus().big_endian_without_leading_zero().to_vec()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    weft_std::clock::unix_ms() / 1000
}

/// Claims that are good for an hour, with `more`.
pub(crate) fn claims(more: Value) -> Value {
    let mut all = json!({ "iss": ISSUER, "sub": "alice", "aud": "web", "exp": now() + 3600 });
    crate::fixture::merge(&mut all, more);
    all.as_object_mut().expect("object").retain(|_, value| !value.is_null());
    all
}

/// A token signed as its `alg` says.
pub(crate) fn sign(header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = match header["alg"].as_str() {
        Some("RS256") => {
            let mut out = vec![0; RSA.public_modulus_len()];
            RSA.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut out).expect("signed");
            out
        }
        Some("ES256") => EC.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed").as_ref().to_vec(),
        Some("EdDSA") => ED.sign(signed.as_bytes()).as_ref().to_vec(),
        Some("HS256") => {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public_modulus());
            aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
        }
        _ => Vec::new(),
    };
    format!("{signed}.{}", base64(signature))
}

/// A good token with `more` claims.
pub(crate) fn good(more: Value) -> String {
    sign(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims(more))
}

/// A policy of one rule with `more` fields.
pub(crate) fn authentication(more: Value) -> Value {
    let mut rule = json!({
        "issuer": ISSUER, "audiences": ["web"], "keys": keys(), "origin": crate::fixture::origin("RequestAuthentication", 5),
        "locations": [{ "header": { "name": "authorization", "prefix": "Bearer " } }, { "param": "access_token" }],
    });
    crate::fixture::merge(&mut rule, more);
    let origin = crate::fixture::origin("RequestAuthentication", 1);
    json!({ "type": "RequestAuthentication", "value": { "name": "default/jwt", "rules": [rule], "origin": origin } })
}

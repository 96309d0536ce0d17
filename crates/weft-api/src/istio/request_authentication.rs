//! `RequestAuthentication`: which tokens (JWT) are believed, and where they are looked for.

use super::{PolicyTargetReference, WorkloadSelector};
use crate::read::Spanned;
use std::time::Duration;

object! {
    /// `security.istio.io RequestAuthentication`: a token that is there must be good; one that is missing gives no identity.
    pub struct RequestAuthentication {
        /// Workloads; absent: all of the namespace (all of the mesh in the root namespace).
        selector: Option<WorkloadSelector> = "selector",
        /// Resources it is attached to, in place of a selector.
        target_refs: Vec<Spanned<PolicyTargetReference>> = "targetRefs",
        /// The older, single form of `target_refs`.
        target_ref: Option<Spanned<PolicyTargetReference>> = "targetRef",
        /// Who issues tokens.
        jwt_rules: Vec<Spanned<JwtRule>> = "jwtRules",
    }
}

object! {
    /// One issuer.
    pub struct JwtRule {
        /// Must be the token's `iss`.
        issuer: String = "issuer",
        /// One of these must be in the token's `aud`; none: any audience.
        audiences: Vec<String> = "audiences",
        /// Where the issuer publishes its keys.
        jwks_uri: Option<String> = "jwksUri",
        /// The older name of `jwks_uri`.
        jwks_uri_old: Option<String> = "jwks_uri",
        /// The keys themselves, a JWK set.
        jwks: Option<String> = "jwks",
        /// Headers that may hold the token.
        from_headers: Vec<JwtHeader> = "fromHeaders",
        /// Query parameters that may.
        from_params: Vec<String> = "fromParams",
        /// Cookies that may.
        from_cookies: Vec<String> = "fromCookies",
        /// Header that tells the program the token's payload, in base64url.
        output_payload_to_header: Option<String> = "outputPayloadToHeader",
        /// Does the program get the token itself?
        forward_original_token: bool = "forwardOriginalToken",
        /// Claims that the program gets as headers.
        output_claim_to_headers: Vec<Spanned<ClaimToHeader>> = "outputClaimToHeaders",
        /// Longest time to fetch the keys.
        timeout: Option<Duration> = "timeout",
        /// Must a request have a token?
        presence: Option<TokenPresence> = "presence",
        /// Claims that are lists written with spaces, besides `scope` and `permission`.
        space_delimited_claims: Vec<String> = "spaceDelimitedClaims",
    }
}

choice! {
    /// May a request come without a token?
    pub enum TokenPresence {
        /// It may, and has no identity then.
        Optional = "OPTIONAL",
        /// It is refused.
        Required = "REQUIRED",
    }
}

object! {
    /// A header that may hold the token.
    pub struct JwtHeader {
        /// Its name.
        name: String = "name",
        /// What stands before the token, e.g. `Bearer ` with its space.
        prefix: Option<String> = "prefix",
    }
}

object! {
    /// A claim that becomes a header.
    pub struct ClaimToHeader {
        /// The header.
        header: String = "header",
        /// The claim; `.` leads into nested objects.
        claim: String = "claim",
    }
}

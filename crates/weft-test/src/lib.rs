//! The fixture language of Weft's golden tests: one `.weft` file holds resources, running workloads, and what must come of them.
//!
//! ```text
//! --- resources
//! (YAML, as a user writes it)
//! --- workloads
//! reviews-v2 app=reviews version=v2 port=9080
//! --- diagnostics
//! warning[WEFT-2104] DestinationRule default/reviews (subsets.weft:9): …
//! --- view productpage-v1 reviews
//! (the projected view, readable)
//! --- explain productpage-v1 GET http://reviews:9080/x
//! (every rule, with why it wins or loses)
//! --- probes
//! productpage-v1 -> GET http://reviews:9080/x [end-user: jason] => outbound|9080|v2|reviews… route default/reviews/0 (line 12)
//! spiffe://cluster.local/ns/default/sa/a -> reviews-v2:9080 GET /x => 403 DENY default/p (line 40)
//! plaintext -> reviews-v2:9080 GET /x => closed: STRICT …
//! ```
//!
//! `UPDATE=1` rewrites everything that is computed: diagnostics, views and what stands behind `=>`. The probes run the model's own
//! evaluators on the projected view, as the proxy does.

mod admission_text;
mod explain_text;
mod fixture;
pub mod live;
mod mesh;
mod probe;
mod view_text;

pub use fixture::check_folder;

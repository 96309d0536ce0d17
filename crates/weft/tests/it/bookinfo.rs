//! Istio's own Bookinfo files, unmodified, one after the other: each does what its name says.

use crate::harness::{Answer, Mesh, corpus, eventually, http};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// Stand-ins for Bookinfo's programs under `weft run`, with the sample's own services applied.
fn bookinfo(corpus: &Path) -> Mesh {
    let mut mesh = Mesh::up(&[]);
    for file in ["platform/kube/bookinfo.yaml", "platform/kube/bookinfo-versions.yaml", "networking/bookinfo-gateway.yaml"] {
        mesh.apply_sample(corpus, file);
    }
    let account = |name: &str| format!("bookinfo-{name}");
    for version in ["v1", "v2"] {
        mesh.run_app("ratings", version, 9080, &["--service-account", &account("ratings")], &[]);
    }
    for version in ["v1", "v2"] {
        mesh.run_app("details", version, 9080, &["--service-account", &account("details")], &[]);
    }
    let ratings: &[&str] = &["ratings:9080/ratings/0"];
    for (version, calls) in [("v1", &[] as &[&str]), ("v2", ratings), ("v3", ratings)] {
        mesh.run_app("reviews", version, 9080, &["--service-account", &account("reviews")], calls);
    }
    let calls = ["details:9080/details/0", "reviews:9080/reviews/0"];
    mesh.run_app("productpage", "v1", 9080, &["--service-account", &account("productpage")], &calls);
    eventually("the gateway routes", || (mesh.page(&[]).status == 200).then_some(()));
    mesh
}

impl Mesh {
    fn apply_sample(&self, corpus: &Path, file: &str) {
        let path = corpus.join("istio-samples/bookinfo").join(file);
        self.cli_ok(&["apply", "-f", &path.display().to_string()]);
    }
    fn delete_sample(&self, corpus: &Path, file: &str) {
        let path = corpus.join("istio-samples/bookinfo").join(file);
        self.cli_ok(&["delete", "-f", &path.display().to_string()]);
    }
    /// The product page: at port 8080 as Istio's Gateway says, or at port 80 as the Gateway API's.
    fn page(&self, headers: &[(&str, &str)]) -> Answer {
        let at = |port: u16| http(([127, 0, 0, 1], port).into(), "GET", "/productpage", headers, "");
        let answer = at(self.gateway_8080);
        if answer.status == 0 { at(self.gateway_port) } else { answer }
    }
    /// One visit of the product page: what each called service answered.
    fn visit(&self, user: Option<&str>) -> Value {
        let headers: Vec<(&str, &str)> = user.map(|u| ("end-user", u)).into_iter().collect();
        let answer = self.page(&headers);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
    /// How often each version of reviews answered.
    fn reviews(&self, visits: u32, user: Option<&str>) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..visits {
            let page = self.visit(user);
            let version = page["calls"][1]["body"]["version"].as_str().unwrap_or("none").to_owned();
            *counts.entry(version).or_default() += 1;
        }
        counts
    }
}

/// Pearson's χ² of observed counts against expected shares stays below the 99.9 % bound for these degrees of freedom.
fn assert_shares(counts: &BTreeMap<String, u32>, shares: &[(&str, f64)]) {
    let total: u32 = counts.values().sum();
    let known: u32 = shares.iter().map(|(v, _)| counts.get(*v).copied().unwrap_or(0)).sum();
    assert_eq!(known, total, "a version that should get nothing got something: {counts:?}");
    let chi2: f64 = shares
        .iter()
        .map(|(version, share)| {
            let expected = share * f64::from(total);
            (f64::from(counts.get(*version).copied().unwrap_or(0)) - expected).powi(2) / expected
        })
        .sum();
    let bound = [10.83, 13.82, 16.27][shares.len() - 2];
    assert!(chi2 < bound, "{counts:?} is not {shares:?}: χ² = {chi2:.1}, allowed {bound}");
}

#[test]
fn istio_networking_files_do_what_their_names_say() {
    let Some(corpus) = corpus() else { return };
    let mesh = bookinfo(&corpus);
    let apply = |file: &str| mesh.apply_sample(&corpus, &format!("networking/{file}"));

    // No rule: all three versions are seen.
    assert_eq!(mesh.reviews(60, None).len(), 3);

    apply("destination-rule-all.yaml");
    apply("virtual-service-all-v1.yaml");
    assert_eq!(mesh.reviews(20, None).keys().collect::<Vec<_>>(), ["v1"]);

    apply("virtual-service-reviews-test-v2.yaml");
    assert_eq!(mesh.reviews(10, Some("jason")).keys().collect::<Vec<_>>(), ["v2"]);
    assert_eq!(mesh.reviews(10, None).keys().collect::<Vec<_>>(), ["v1"]);

    // Jason sees v2, which calls ratings; ratings delays him by 7 s, and only him.
    apply("virtual-service-ratings-test-delay.yaml");
    let page = mesh.visit(Some("jason"));
    let ratings = &page["calls"][1]["body"]["calls"][0];
    assert!((7_000..9_000).contains(&ratings["ms"].as_u64().expect("ms")), "{ratings}");

    apply("virtual-service-ratings-test-abort.yaml");
    let page = mesh.visit(Some("jason"));
    assert_eq!(page["calls"][1]["body"]["calls"][0]["status"], 500, "{page}");

    apply("virtual-service-reviews-50-v3.yaml");
    assert_shares(&mesh.reviews(300, None), &[("v1", 0.5), ("v3", 0.5)]);
    apply("virtual-service-reviews-80-20.yaml");
    assert_shares(&mesh.reviews(300, None), &[("v1", 0.8), ("v2", 0.2)]);
    apply("virtual-service-reviews-90-10.yaml");
    assert_shares(&mesh.reviews(300, None), &[("v1", 0.9), ("v2", 0.1)]);
    apply("virtual-service-reviews-v2-v3.yaml");
    assert_shares(&mesh.reviews(300, None), &[("v2", 0.5), ("v3", 0.5)]);
    apply("virtual-service-reviews-v3.yaml");
    assert_eq!(mesh.reviews(20, None).keys().collect::<Vec<_>>(), ["v3"]);
    apply("virtual-service-reviews-jason-v2-v3.yaml");
    assert_eq!(mesh.reviews(10, Some("jason")).keys().collect::<Vec<_>>(), ["v2"]);
    assert_eq!(mesh.reviews(10, None).keys().collect::<Vec<_>>(), ["v3"]);

    apply("fault-injection-details-v1.yaml");
    let details = mesh.visit(None)["calls"][0].clone();
    assert_eq!(details["status"], 555, "{details}");
    // The file before this one left a DestinationRule with v1 only.
    apply("destination-rule-all.yaml");
    apply("virtual-service-details-v2.yaml");
    let details = mesh.visit(None)["calls"][0].clone();
    assert_eq!((&details["status"], &details["body"]["version"]), (&200.into(), &"v2".into()), "{details}");
}

#[test]
fn gateway_api_files_do_what_their_names_say() {
    let Some(corpus) = corpus() else { return };
    let mesh = bookinfo(&corpus);
    mesh.delete_sample(&corpus, "networking/bookinfo-gateway.yaml");
    let apply = |file: &str| mesh.apply_sample(&corpus, &format!("gateway-api/{file}"));
    apply("bookinfo-gateway.yaml");
    eventually("the gateway listens", || (mesh.through_gateway("/nowhere", &[]).status == 404).then_some(()));
    eventually("Istio's gateway is closed", || (mesh.page(&[]).status == 200).then_some(()));
    apply("route-all-v1.yaml");
    assert_eq!(mesh.reviews(20, None).keys().collect::<Vec<_>>(), ["v1"]);
    apply("route-reviews-50-v3.yaml");
    assert_shares(&mesh.reviews(300, None), &[("v1", 0.5), ("v3", 0.5)]);
    apply("route-reviews-90-10.yaml");
    assert_shares(&mesh.reviews(300, None), &[("v1", 0.9), ("v2", 0.1)]);
    apply("route-reviews-v3.yaml");
    assert_eq!(mesh.reviews(20, None).keys().collect::<Vec<_>>(), ["v3"]);
    apply("route-reviews-v1.yaml");
    assert_eq!(mesh.reviews(20, None).keys().collect::<Vec<_>>(), ["v1"]);
}

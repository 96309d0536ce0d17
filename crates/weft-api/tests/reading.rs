//! What a user writes and what Weft answers: typed values with their lines, and diagnostics as text.

use weft_api::{Document, Parsed, Resource, istio, parse, parse_at};

/// Parses `yaml` as `x.yaml` and compares the diagnostics, one line each. Returns what was read.
fn check(yaml: &str, expected: &[&str]) -> Parsed {
    let parsed = parse(yaml, "x.yaml");
    let found: Vec<String> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "for:\n{yaml}");
    parsed
}

/// The only document of a text without findings.
fn one(yaml: &str) -> Document {
    let parsed = check(yaml, &[]);
    assert_eq!(parsed.documents.len(), 1);
    parsed.documents.into_iter().next().expect("one document")
}

fn virtual_service(yaml: &str) -> istio::VirtualService {
    match one(yaml).resource {
        Resource::VirtualService(read) => read,
        other => unreachable!("a VirtualService, not {other:?}"),
    }
}

const REVIEWS: &str = "\
# Half of reviews goes to v3.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
  - reviews
  http:
  - match:
    - headers:
        end-user:
          exact: jason
    - uri: {prefix: /v2}
    route:
    - destination: {host: reviews, subset: v2}
  - route:
    - destination:
        host: reviews
        subset: v1
      weight: 50
    - destination: {host: reviews, subset: v3, port: {number: 9080}}
      weight: 50
    timeout: 1.5s
";

#[test]
fn every_rule_match_and_target_knows_its_line() {
    let read = virtual_service(REVIEWS);
    assert_eq!((read.hosts[0].line, read.hosts[0].value.as_str()), (8, "reviews"));
    assert_eq!((read.http[0].line, read.http[0].field.as_str()), (10, "spec.http[0]"));
    assert_eq!(read.http[0].matches[1].line, 14);
    assert_eq!(read.http[0].matches[0].headers["end-user"], istio::StringMatch::Exact("jason".into()));
    assert_eq!(read.http[1].route[1].line, 22);
    assert_eq!(read.http[1].route[1].destination.port.as_ref().map(|p| p.number), Some(9080));
    assert_eq!(read.http[1].timeout, Some(std::time::Duration::from_millis(1500)));
    let origin = read.http[1].origin(&one(REVIEWS).origin);
    assert_eq!(origin.to_string(), "VirtualService default/reviews (x.yaml:17)");
    assert_eq!(origin.field, "spec.http[1]");
}

#[test]
fn windows_line_ends_a_byte_order_mark_and_json_read_the_same() {
    let plain = one(REVIEWS);
    let windows = one(&format!("\u{feff}{}", REVIEWS.replace('\n', "\r\n")));
    assert_eq!((windows.hash(), &windows.resource), (plain.hash(), &plain.resource));
    let json = serde_json::to_string_pretty(&plain.json).expect("json");
    assert_eq!(one(&json).hash(), plain.hash());
    assert_eq!(one(&json.replace("  ", "\t")).hash(), plain.hash());
}

#[test]
fn a_document_keeps_its_line_in_the_file_and_its_own_text() {
    let text = format!("# only a comment\n---\n{REVIEWS}--- # next\n\n{}...\n---\n", REVIEWS.replace("reviews", "ratings"));
    let parsed = check(&text, &[]);
    let lines: Vec<u32> = parsed.documents.iter().map(|d| d.origin.line).collect();
    assert_eq!(lines, [4, 30]);
    let second = &parsed.documents[1];
    let again = parse_at(&second.raw, "x.yaml", second.first_line);
    assert_eq!(again.documents[0].resource, second.resource);
    assert_eq!(again.documents[0].origin, second.origin);
    assert_ne!(parsed.documents[0].hash(), second.hash());
}

#[test]
fn the_hash_sees_meaning_not_layout_or_status() {
    let plain = one(REVIEWS);
    let moved = REVIEWS.replace("kind: VirtualService\n", "").replace("metadata:", "kind: VirtualService\nmetadata:");
    let stored =
        format!("{REVIEWS}status: {{observedGeneration: 3}}\n").replace("  name: reviews", "  name: reviews\n  uid: abc\n  generation: 3");
    assert_eq!(one(&moved).hash(), plain.hash());
    assert_eq!(one(&stored).hash(), plain.hash());
    assert_ne!(one(&REVIEWS.replace("weight: 50", "weight: 51")).hash(), plain.hash());
}

#[test]
fn anchors_aliases_and_merge_keys_are_resolved() {
    let read = virtual_service(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  hosts: [x]\n  http:\n  - &base\n    timeout: 1s\n    \
         route: &to\n    - destination: {host: a}\n  - <<: *base\n    timeout: 2s\n  - route: *to\n",
    );
    assert_eq!(read.http[1].route[0].value, read.http[0].route[0].value);
    assert_eq!(read.http[1].timeout, Some(std::time::Duration::from_secs(2)));
    assert_eq!(read.http[2].route[0].destination.host, "a");
}

#[test]
fn unknown_fields_are_named_with_line_and_what_was_meant() {
    check(
        &REVIEWS.replace("timeout:", "timout:").replace("      weight: 50\n    - dest", "      wieght: 50\n      colour: red\n    - dest"),
        &[
            "warning[WEFT-1201] VirtualService default/reviews (x.yaml:21): spec.http[1].route[0] has no field \"wieght\"; it is ignored; fix: did \
             you mean weight?",
            "warning[WEFT-1201] VirtualService default/reviews (x.yaml:22): spec.http[1].route[0] has no field \"colour\"; it is ignored",
            "warning[WEFT-1201] VirtualService default/reviews (x.yaml:25): spec.http[1] has no field \"timout\"; it is ignored; fix: did you mean \
             timeout?",
        ],
    );
    check(
        &REVIEWS
            .replace("spec:\n", "spec:\n  exportTo: ['*']\nspecs: 3\n")
            .replace("specs: 3\n", "")
            .replace("  name: reviews", "  name: reviews\n  namspace: a"),
        &[
            "warning[WEFT-1201] VirtualService default/reviews (x.yaml:6): metadata has no field \"namspace\"; it is ignored; fix: did you mean namespace?",
        ],
    );
}

#[test]
fn what_is_not_acted_on_yet_is_said() {
    check(
        &format!("{REVIEWS}    match: [{{statPrefix: a}}]\n"),
        &["warning[WEFT-1202] VirtualService default/reviews (x.yaml:25): spec.http[1].match[0].statPrefix is read but not acted on yet"],
    );
    check(
        "apiVersion: networking.istio.io/v1\nkind: EnvoyFilter\nmetadata: {name: p}\n",
        &["warning[WEFT-1103] EnvoyFilter default/p (x.yaml:2): kind EnvoyFilter is read but not acted on yet"],
    );
}

#[test]
fn a_bad_document_harms_only_itself_and_all_its_errors_are_named() {
    let bad = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: strict
spec:
  selector:
    matchLabels: {app: 1}
  mtls:
    mode: STRCIT
  portLevelMtls:
    http: {mode: DISABLE}
";
    let text = format!("{bad}---\na: [\n---\n{REVIEWS}");
    let parsed = check(
        &text,
        &[
            "error[WEFT-1301] PeerAuthentication default/strict (x.yaml:7): spec.selector.matchLabels.app is a number, but must be text (write it in \
             quotes)",
            "error[WEFT-1303] PeerAuthentication default/strict (x.yaml:9): spec.mtls.mode is \"STRCIT\", but must be one of UNSET, DISABLE, \
             PERMISSIVE, STRICT; fix: did you mean STRICT?",
            "error[WEFT-1302] PeerAuthentication default/strict (x.yaml:11): spec.portLevelMtls.http: \"http\" is not a port",
            "error[WEFT-1001] x.yaml:13: cannot be read as YAML: unclosed bracket '[' (column 4)",
        ],
    );
    assert_eq!(parsed.documents.iter().filter(|d| d.resource == Resource::Invalid).count(), 1);
    assert!(matches!(parsed.documents[1].resource, Resource::VirtualService(_)));
    assert_eq!(parsed.documents[1].origin.line, 16);
}

#[test]
fn missing_fields_and_bad_values_name_their_path() {
    check(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n  subsets:\n  - labels: {version: v1}\n",
        &[
            "error[WEFT-1304] DestinationRule default/d (x.yaml:5): spec.host is missing",
            "error[WEFT-1304] DestinationRule default/d (x.yaml:6): spec.subsets[0].name is missing",
        ],
    );
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: Bad_Name}\nspec:\n  ports:\n  - port: 70000\n",
        &[
            "error[WEFT-1106] Service default/Bad_Name (x.yaml:3): metadata.name is \"Bad_Name\": lower-case letters, digits, '-' and '.', 253 \
             characters at most, beginning and ending with a letter or digit",
            "error[WEFT-1302] Service default/Bad_Name (x.yaml:6): spec.ports[0].port: 70000 is not a whole number from 0 to 65535",
        ],
    );
    check(
        &REVIEWS.replace("1.5s", "soon").replace("{prefix: /v2}", "{prefix: /v2, exact: /v3}"),
        &[
            "error[WEFT-1305] VirtualService default/reviews (x.yaml:14): spec.http[0].match[1].uri has both exact and prefix; only one may be given",
            "error[WEFT-1302] VirtualService default/reviews (x.yaml:24): spec.http[1].timeout: \"soon\" is not a duration such as 10s, 250ms or \
             1m30s",
        ],
    );
    check(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules:\n  - filters:\n    - type: RequestRedirect\n",
        &["error[WEFT-1304] HTTPRoute default/r (x.yaml:7): spec.rules[0].filters[0].requestRedirect is missing"],
    );
}

#[test]
fn a_field_given_twice_is_an_error_with_both_lines() {
    let parsed = check(
        &REVIEWS.replace("    timeout: 1.5s", "    timeout: 1.5s\n    timeout: 2s"),
        &[
            "error[WEFT-1004] VirtualService default/reviews (x.yaml:25): field \"timeout\" is given twice; the first is on line 24; fix: delete or merge \
           one of the two",
        ],
    );
    assert_eq!(parsed.documents[0].resource, Resource::Invalid);
}

#[test]
fn unknown_kinds_are_warnings_with_the_kind_that_was_meant() {
    check(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServices\nmetadata: {name: a}\n---\napiVersion: networking.istio.io/v1\nkind: \
         HTTPRoute\nmetadata: {name: a}\n---\napiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n---\napiVersion: v1\nkind: \
         Role\nmetadata: {name: a}\n---\napiVersion: security.istio.io/v9\nkind: PeerAuthentication\nmetadata: {name: a}\n",
        &[
            "warning[WEFT-1102] VirtualServices a (x.yaml:2): Weft does not know kind \"VirtualServices\" of apiVersion \
             \"networking.istio.io/v1\"; it has no effect; fix: did you mean kind: VirtualService?",
            "warning[WEFT-1102] HTTPRoute a (x.yaml:6): Weft does not know kind \"HTTPRoute\" of apiVersion \"networking.istio.io/v1\"; it has \
             no effect; fix: did you mean apiVersion: gateway.networking.k8s.io/v1?",
            "warning[WEFT-1102] Thing a (x.yaml:10): Weft does not know kind \"Thing\" of apiVersion \"example.com/v1\"; it has no effect",
            "info[WEFT-1104] Role default/a (x.yaml:14): kind Role has no effect on the mesh",
            "warning[WEFT-1105] PeerAuthentication default/a (x.yaml:17): apiVersion \"security.istio.io/v9\" is not known for this kind; it is read as \
             security.istio.io/v1; fix: write apiVersion: security.istio.io/v1",
        ],
    );
}

#[test]
fn what_is_no_resource_is_said() {
    check("", &["warning[WEFT-1005] x.yaml:1: has no resource in it"]);
    check("# nothing\n---\n---\n", &["warning[WEFT-1005] x.yaml:1: has no resource in it"]);
    check(
        "hello\n---\n- 1\n---\na: 1\n",
        &[
            "error[WEFT-1101] x.yaml:1: is not a resource: it is text; fix: a resource is an object with apiVersion, kind and metadata.name",
            "error[WEFT-1101] x.yaml:3: is not a resource: it is a list; fix: a resource is an object with apiVersion, kind and metadata.name",
            "error[WEFT-1101] x.yaml:5: is not a resource: it has no apiVersion; fix: a resource is an object with apiVersion, kind and metadata.name",
        ],
    );
    check(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Values.name }}\n{{- if .Values.x }}\nspec: {}\n{{- end }}\n",
        &[
            "error[WEFT-1006] x.yaml:4: is a template, not YAML: it has {{ … }} in it; fix: render it first, e.g. with `helm template`, and give Weft the \
           result",
        ],
    );
    check("apiVersion: v1\nkind: Service\nspec: {}\n", &["error[WEFT-1304] Service (x.yaml:1): metadata is missing"]);
}

#[test]
fn a_kubernetes_list_becomes_its_items_each_with_its_line_and_text() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ServiceAccount\n  metadata:\n    name: a\n- apiVersion: v1\n  kind: \
                Service\n  metadata: {name: b}\n  spec:\n    ports:\n    - port: 80\n      nme: x\n";
    let parsed = check(
        text,
        &["warning[WEFT-1201] Service default/b (x.yaml:14): spec.ports[0] has no field \"nme\"; it is ignored; fix: did you mean name?"],
    );
    let lines: Vec<u32> = parsed.documents.iter().map(|d| d.origin.line).collect();
    assert_eq!(lines, [4, 8]);
    for document in &parsed.documents {
        let again = parse_at(&document.raw, "x.yaml", document.first_line);
        assert_eq!(again.documents[0].origin, document.origin);
        assert_eq!(again.documents[0].resource, document.resource);
    }
    let json = serde_json::json!({"apiVersion": "v1", "kind": "ServiceList", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}]});
    assert_eq!(check(&json.to_string(), &[]).documents[0].meta.name, "n");
}

#[test]
fn an_empty_rule_differs_from_no_rules() {
    let policy =
        |spec: &str| match one(&format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\n{spec}"))
            .resource
        {
            Resource::AuthorizationPolicy(read) => read.rules.len(),
            _ => unreachable!("an AuthorizationPolicy"),
        };
    assert_eq!(policy("spec: {}\n"), 0);
    assert_eq!(policy("spec:\n"), 0);
    assert_eq!(policy(""), 0);
    assert_eq!(policy("spec:\n  rules:\n  - {}\n"), 1);
    // A null rule is not an empty rule: one would deny nothing and the other everything.
    check(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  rules:\n  -\n",
        &["error[WEFT-1301] AuthorizationPolicy default/p (x.yaml:6): spec.rules[0] is empty, but must be an object"],
    );
}

//! Expressions as Istio's documentation writes them, over a request at hand.

use super::*;

struct Request;

impl Attributes for Request {
    fn attribute(&self, name: &str) -> ExpressionValue<'_> {
        match name {
            "response.code" => ExpressionValue::Number(503),
            "request.host" => ExpressionValue::Text("reviews:9080".into()),
            "request.url_path" => ExpressionValue::Text("/api/v1/items".into()),
            "request.method" => ExpressionValue::Text("GET".into()),
            "request.duration" => ExpressionValue::Micros(1_500_000),
            "connection.mtls" => ExpressionValue::Truth(true),
            "xds.cluster_name" => ExpressionValue::Text("outbound|80||reviews".into()),
            "request.size" => ExpressionValue::Number(42),
            _ => ExpressionValue::Missing,
        }
    }
    fn entry(&self, map: &str, key: &str) -> ExpressionValue<'_> {
        match (map, key) {
            ("request.headers", "x-tenant") => ExpressionValue::Text("blue".into()),
            _ => ExpressionValue::Missing,
        }
    }
}

fn check(text: &str, want: &str) {
    let expression: Expression = text.parse().unwrap_or_else(|e| unreachable!("{text}: {e}"));
    let value = expression.as_text(&Request);
    assert_eq!(value.as_deref().unwrap_or("missing"), want, "{text}");
    assert_eq!(expression.is_true(&Request), want == "true", "{text}");
}

#[test]
fn values() {
    for (text, want) in [
        ("response.code >= 400", "true"),
        ("response.code == 200 || connection.mtls", "true"),
        ("!connection.mtls", "false"),
        ("!!connection.mtls", "true"),
        ("!has(response.grpc_status) && response.code > 499", "true"),
        ("has(request.headers['x-tenant'])", "true"),
        ("has(request.headers['x-other'])", "false"),
        ("request.headers['X-Tenant'] == 'blue'", "true"),
        ("request.headers.x == 'blue'", "missing"),
        ("'x-tenant' in request.headers", "true"),
        ("request.headers['x-other'] == 'blue'", "missing"),
        ("request.headers['x-other'] == 'blue' || true", "true"),
        ("request.headers['x-other'] == 'blue' && false", "false"),
        ("request.method in ['GET', \"HEAD\"]", "true"),
        ("request.url_path.startsWith('/api') && request.url_path.matches(r'^/api/v\\d+/')", "true"),
        ("request.url_path.contains(\"nothing\") ? 'a' : string(request.size)", "42"),
        ("xds.cluster_name.startsWith('outbound|80')", "true"),
        ("request.duration > duration('1s')", "true"),
        ("request.host + \"!\"", "reviews:9080!"),
        ("response.code - 1", "error"),
        ("size(request.method) == 3 && request.method.lowerAscii() == 'get'", "true"),
        ("response.code == '503'", "false"),
        ("response.grpc_status == null", "true"),
        ("-1 < 0", "true"),
        ("int('7') + 1", "8"),
        ("filter_state['x']", "missing"),
    ] {
        match want {
            "error" => assert!(text.parse::<Expression>().is_err(), "{text}"),
            want => check(text, want),
        }
    }
}

#[test]
fn what_is_not_an_expression_is_said() {
    for (text, word) in [
        ("", "the end"),
        ("response.code >", "the end"),
        ("(a", "\")\" is missing"),
        ("a b", "\"b\""),
        ("a.exists(x)", "exists()"),
        ("launch(a)", "launch()"),
        ("'open", "not closed"),
        ("a.matches(b)", "in quotes"),
        ("a.matches('(')", "not legal"),
        ("a # b", "'#'"),
        ("99999999999999999999", "not a number"),
    ] {
        let error = text.parse::<Expression>().expect_err(text).to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    let deep = format!("{}a{}", "(".repeat(40), ")".repeat(40));
    assert!(deep.parse::<Expression>().expect_err("deep").to_string().contains("nested"));
    let many = vec!["a"; 400].join("||");
    assert!(many.parse::<Expression>().expect_err("many").to_string().contains("parts"));
    assert!("é".parse::<Expression>().is_err() && "r".parse::<Expression>().is_ok());
}

#[test]
fn names_and_headers_are_known_before_a_request_comes() {
    let expression: Expression =
        "request.headers['X-A'] == 'b' || 'x-c' in request.headers || filter_state.peer == 'd'".parse().expect("parses");
    assert_eq!(expression.unknown_names(), ["filter_state.peer"]);
    let mut names = Vec::new();
    expression.headers(HeaderSource::Request, &mut names);
    assert_eq!(names, ["x-a", "x-c"]);
    let json = serde_json::to_string(&expression).expect("serialises");
    assert_eq!(serde_json::from_str::<Expression>(&json).expect("reads"), expression);
}

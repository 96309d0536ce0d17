//! Every file of the corpus (Istio's samples, Gateway API's examples, CRDs) parses: it yields a resource or a diagnostic with a line.
//!
//! Set `WEFT_CORPUS` to the corpus; without it the test says loudly that it did nothing.

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use weft_api::{Resource, Severity, parse, parse_bytes};

/// All YAML and JSON files below a folder, in order.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).expect("a readable folder").map(|e| e.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_of_the_corpus_yields_resources_or_a_diagnostic_with_a_line() {
    let Some(corpus) = std::env::var_os("WEFT_CORPUS") else {
        eprintln!("SKIPPED: WEFT_CORPUS is not set, so the corpus was NOT read");
        return;
    };
    let corpus = PathBuf::from(corpus);
    let mut paths = Vec::new();
    files(&corpus, &mut paths);
    assert!(!paths.is_empty(), "no YAML below {}", corpus.display());
    let mut documents = 0;
    for path in &paths {
        let name = path.strip_prefix(&corpus).expect("a path below the corpus").display().to_string();
        let parsed = parse_bytes(&std::fs::read(path).expect("a readable file"), &name);
        let placed = parsed.diagnostics.iter().all(|d| d.origin.line > 0 && d.origin.file == name);
        assert!(placed, "{name}: a diagnostic without file and line: {:#?}", parsed.diagnostics);
        assert!(!parsed.documents.is_empty() || !parsed.diagnostics.is_empty(), "{name}: nothing was said about it");
        for document in &parsed.documents {
            let again = weft_api::parse_at(&document.raw, &name, document.first_line);
            let same = again.documents.iter().find(|d| d.key() == document.key()).unwrap_or_else(|| unread(&name, &document.raw));
            assert_eq!((same.hash(), same.origin.line), (document.hash(), document.origin.line), "{name}: {}", document.origin);
            assert_eq!(same.resource, document.resource, "{name}: {}", document.origin);
        }
        documents += parsed.documents.len();
        if std::env::var_os("WEFT_CORPUS_SHOW").is_some() {
            parsed.diagnostics.iter().for_each(|d| eprintln!("{d}"));
        }
    }
    eprintln!("{} files, {documents} documents", paths.len());
}

#[allow(clippy::panic, reason = "tests")]
fn unread(name: &str, raw: &str) -> ! {
    panic!("{name}: its text alone is not the same document:\n{raw}")
}

/// Upstream's own samples are legal: nothing in them may be called unknown, wrong or missing.
#[test]
fn legal_samples_get_no_false_findings() {
    let Some(corpus) = std::env::var_os("WEFT_CORPUS") else {
        eprintln!("SKIPPED: WEFT_CORPUS is not set, so the samples were NOT read");
        return;
    };
    for folder in ["istio-samples/bookinfo", "gateway-api-examples"] {
        let mut paths = Vec::new();
        files(&PathBuf::from(&corpus).join(folder), &mut paths);
        for path in &paths {
            let parsed = parse_bytes(&std::fs::read(path).expect("a readable file"), &path.display().to_string());
            for found in &parsed.diagnostics {
                let expected = found.severity == Severity::Info || matches!(found.code.as_ref(), "WEFT-1103" | "WEFT-1202" | "WEFT-1203");
                assert!(expected, "{found}");
            }
            assert!(parsed.documents.iter().all(|d| d.resource != Resource::Invalid), "{}", path.display());
        }
    }
}

/// An object with every field that a schema allows, each with a value of the right type. What the schema does not say of a text, its
/// name does.
fn sample(name: &str, schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if schema["x-kubernetes-int-or-string"] == json!(true) {
        return json!(80);
    }
    let text = match schema["pattern"].as_str() {
        _ if name == "operator" => "In",
        _ if name.ends_with("Subnets") || name.ends_with("Blocks") || name == "sourceSubnet" => "10.0.0.0/8",
        _ if ["idleTimeout", "ttl", "budgetInterval", "timeout", "reportingInterval"].contains(&name) => "10s",
        _ if name == "protocol" && schema["description"].to_string().contains("tunnel") => "CONNECT",
        _ if name == "wellKnownCACertificates" => "System",
        Some(pattern) if pattern.contains("(h|m|s|ms)") => "10s",
        _ if schema["format"] == json!("duration") || schema["x-kubernetes-validations"].to_string().contains("duration") => "10s",
        _ => "a",
    };
    match schema["type"].as_str() {
        Some("object") => match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(properties), _) => Value::Object(properties.iter().map(|(k, v)| (k.clone(), sample(k, v))).collect()),
            (_, Value::Object(items)) => json!({"8080": sample(name, &Value::Object(items.clone()))}),
            _ => json!({}),
        },
        Some("array") => json!([sample(name, &schema["items"])]),
        Some("integer") => schema["minimum"].as_i64().map_or(json!(80), |n| json!(n.max(1))),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        _ => json!(text),
    }
}

/// The schemas of the kinds that Weft reads: `(apiVersion, kind, schema of spec)` for every version that is served.
fn schemas(corpus: &Path) -> Vec<(String, String, Value)> {
    const READ: [&str; 15] = [
        "GatewayClass",
        "Gateway",
        "HTTPRoute",
        "GRPCRoute",
        "ReferenceGrant",
        "VirtualService",
        "DestinationRule",
        "ServiceEntry",
        "WorkloadEntry",
        "AuthorizationPolicy",
        "PeerAuthentication",
        "RequestAuthentication",
        "Telemetry",
        "TLSRoute",
        "BackendTLSPolicy",
    ];
    let mut paths = Vec::new();
    files(&corpus.join("crds"), &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let parsed = parse_bytes(&std::fs::read(&path).expect("a readable file"), "crd.yaml");
        for spec in parsed.documents.iter().filter(|d| d.meta.kind == "CustomResourceDefinition").map(|d| &d.json["spec"]) {
            let (group, kind) = (spec["group"].as_str().unwrap_or_default(), spec["names"]["kind"].as_str().unwrap_or_default());
            let versions = spec["versions"].as_array().cloned().unwrap_or_default();
            for version in versions.iter().filter(|v| v["served"] == json!(true) && READ.contains(&kind)) {
                let api_version = format!("{group}/{}", version["name"].as_str().unwrap_or_default());
                found.push((api_version, kind.to_owned(), version["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()));
            }
        }
    }
    found
}

/// The CRDs are the truth on field names and types: an object with every field of its schema has no unknown one and none of a wrong type.
#[test]
fn every_field_of_the_schemas_is_known() {
    let Some(corpus) = std::env::var_os("WEFT_CORPUS") else {
        eprintln!("SKIPPED: WEFT_CORPUS is not set, so the schemas were NOT read");
        return;
    };
    let schemas = schemas(Path::new(&corpus));
    assert!(schemas.len() > 25, "only {} schemas", schemas.len());
    let mut wrong = Vec::new();
    for (api_version, kind, schema) in schemas {
        let mut object = Map::new();
        object.insert("apiVersion".into(), json!(api_version));
        object.insert("kind".into(), json!(kind));
        object.insert("metadata".into(), json!({"name": "a"}));
        object.insert("spec".into(), sample("spec", &schema));
        let parsed = parse(&serde_json::to_string_pretty(&object).expect("json"), "sample.json");
        let bad = |code: &str| !matches!(code, "WEFT-1202" | "WEFT-1203" | "WEFT-1305");
        wrong.extend(parsed.diagnostics.iter().filter(|d| bad(&d.code)).map(|d| format!("{api_version} {d}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

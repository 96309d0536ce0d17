//! A value against a schema of the document: types, required fields, words, and no field that the document does not name.

use serde_json::Value;

/// Everything that is wrong with `value`, with its place.
pub(crate) fn violations(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is not in the document"));
        return violations(document, target, value, place);
    }
    if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
        return all.iter().flat_map(|one| violations(document, one, value, place)).collect();
    }
    for either in ["oneOf", "anyOf"] {
        if let Some(some) = schema.get(either).and_then(Value::as_array) {
            let fits = some.iter().any(|one| violations(document, one, value, place).is_empty());
            return if fits { Vec::new() } else { vec![format!("{place}: {value} fits no alternative")] };
        }
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        return vec![format!("{place}: {value} is none of {words:?}")];
    }
    match (schema.get("type").and_then(Value::as_str), value) {
        (None, _) | (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) | (Some("number"), Value::Number(_)) => {
            Vec::new()
        }
        (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => Vec::new(),
        (Some("array"), Value::Array(items)) => {
            let item = &schema["items"];
            items.iter().enumerate().flat_map(|(i, one)| violations(document, item, one, &format!("{place}[{i}]"))).collect()
        }
        (Some("object"), Value::Object(_)) => object(document, schema, value, place),
        (Some(kind), other) => vec![format!("{place}: {other} is not of type {kind}")],
    }
}

fn object(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let fields = value.as_object().expect("an object");
    let mut wrong = Vec::new();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    wrong.extend(required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{place}: field {name} is missing")));
    for (name, field) in fields {
        let place = format!("{place}.{name}");
        match (schema.get("properties").and_then(|p| p.get(name)), schema.get("additionalProperties")) {
            (Some(known), _) => wrong.extend(violations(document, known, field, &place)),
            (None, Some(any)) if any.is_object() => wrong.extend(violations(document, any, field, &place)),
            (None, Some(Value::Bool(true))) => {}
            (None, _) if schema.get("properties").is_none() => {}
            (None, _) => wrong.push(format!("{place}: the document has no such field")),
        }
    }
    wrong
}

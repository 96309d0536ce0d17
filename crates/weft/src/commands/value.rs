//! Reading the API's JSON for tables: a missing field is an empty text or 0, so that an older server still prints.

use serde_json::Value;

/// Text at a JSON pointer, e.g. `/source/workload`.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
/// Whole number at a JSON pointer.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
/// Number at a JSON pointer.
pub(crate) fn real(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}
/// Truth at a JSON pointer.
pub(crate) fn truth(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}
/// List at a JSON pointer.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `VirtualService default/ratings (ratings.yaml:9)` from an origin object.
pub(crate) fn origin(value: &Value) -> String {
    serde_json::from_value::<weft_model::Origin>(value.clone()).map(|o| o.to_string()).unwrap_or_default()
}

/// `file:line`, or the object when there is no file.
pub(crate) fn place(value: &Value) -> String {
    match (text(value, "/file"), number(value, "/line")) {
        ("", _) => origin(value),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    }
}

/// A share of one as percent: `99.5%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Diagnostics, one paragraph each: severity, code, object, place, message and fix.
pub(crate) fn diagnostics(list: &[Value]) -> String {
    let one = |d: &Value| {
        let fix = match text(d, "/fix") {
            "" => String::new(),
            fix => format!("\n  fix: {fix}"),
        };
        format!("{}[{}] {}: {}{fix}", text(d, "/severity"), text(d, "/code"), origin(&d["origin"]), text(d, "/message"))
    };
    list.iter().map(one).collect::<Vec<_>>().join("\n")
}

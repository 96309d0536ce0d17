//! View ⇄ wire: a resource travels as the JSON form of its model value, with its provenance inside.

use std::sync::Arc;
use weft_model::{ModelValue, ResourceName, Root, RootState, Versioned};
use weft_proto::{Bytes, v1};

/// What a proxy would not take, down to the field, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{resource}{}{field}: {message}", if field.is_empty() { "" } else { " field " })]
pub struct Refusal {
    /// Name of the resource, as it came.
    pub resource: String,
    /// Path of the field inside the value; empty for the whole.
    pub field: String,
    /// Why, in words.
    pub message: String,
}

/// A value in its wire form.
pub fn encode(name: &ResourceName, versioned: &Versioned) -> v1::Resource {
    // Serialising our own types cannot fail: no maps with non-string keys, no failing Serialize.
    let body = serde_json::to_vec(versioned.value.as_ref()).unwrap_or_default();
    v1::Resource { name: name.to_string(), version: versioned.version.clone(), body: Bytes::from(body) }
}

/// A value from its wire form.
///
/// # Errors
/// When the name is no resource name, the body is garbled (the refusal names the field), or it is another resource's body.
pub fn decode(resource: &v1::Resource) -> Result<(ResourceName, Versioned), Refusal> {
    let refuse = |field: String, message: String| Refusal { resource: resource.name.clone(), field, message };
    let name: ResourceName = resource.name.parse().map_err(|error: weft_model::NameError| refuse(String::new(), error.to_string()))?;
    let mut json = serde_json::Deserializer::from_slice(&resource.body);
    let value: ModelValue = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // The content of the envelope is what people know as the value.
        let field = path.strip_prefix("value.").unwrap_or(&path).trim_matches('.').to_owned();
        let field = if matches!(field.as_str(), "value" | "?") { String::new() } else { field };
        refuse(field, format!("the value cannot be read: {}", error.into_inner()))
    })?;
    json.end().map_err(|error| refuse(String::new(), format!("the value is followed by something else: {error}")))?;
    if value.name() != name {
        return Err(refuse(String::new(), format!("the value is that of {}", value.name())));
    }
    Ok((name, Versioned { version: resource.version.clone(), value: Arc::new(value) }))
}

/// The state of a root in its wire form.
pub fn encode_root(root: &Root, state: &RootState) -> v1::RootState {
    let (known, host) = match state {
        RootState::Resolved(host) => (true, host.clone()),
        RootState::Unknown => (false, String::new()),
    };
    v1::RootState { root: root.to_string(), known, host }
}

/// The state of a root from its wire form; `None` when it is not a root.
pub fn decode_root(wire: &v1::RootState) -> Option<(Root, RootState)> {
    let state = if wire.known { RootState::Resolved(wire.host.clone()) } else { RootState::Unknown };
    Some((wire.root.parse().ok()?, state))
}

impl From<&Refusal> for v1::ResourceError {
    fn from(refusal: &Refusal) -> Self {
        Self { resource: refusal.resource.clone(), field: refusal.field.clone(), message: refusal.message.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn every_kind_of_value_survives_the_way() {
        for value in samples::one_of_each() {
            let (name, versioned) = (value.name(), Versioned { version: value.version(), value: Arc::new(value) });
            let (decoded_name, decoded) = decode(&encode(&name, &versioned)).expect("decodes");
            assert_eq!((&decoded_name, &decoded), (&name, &versioned));
            assert_eq!(decoded.value.version(), versioned.version, "the hash is the same on both sides");
        }
    }

    #[test]
    fn a_garbled_value_names_its_resource_and_field() {
        let check = |value: &ModelValue, from: &str, to: &str, field: &str| {
            let versioned = Versioned { version: value.version(), value: Arc::new(value.clone()) };
            let mut resource = encode(&value.name(), &versioned);
            let text = String::from_utf8(resource.body.to_vec()).expect("JSON is UTF-8");
            assert!(text.contains(from), "{text}");
            resource.body = Bytes::from(text.replacen(from, to, 1));
            let refusal = decode(&resource).expect_err("garbled");
            assert_eq!((refusal.resource, refusal.field.as_str()), (value.name().to_string(), field), "{}", refusal.message);
        };
        let inbound = samples::inbound(1);
        check(&inbound, r#""mtls":"STRICT""#, r#""mtls":"STRICTLY""#, "ports[0].mtls");
        check(&samples::endpoints("reviews.default", 1), r#""weight":1"#, r#""weight":"heavy""#, "endpoints[0].weight");
        check(&inbound, r#""type":"Inbound""#, r#""type":"Outbound""#, "type");
    }

    #[test]
    fn cut_or_foreign_bodies_are_refused_and_nothing_panics() {
        let value = samples::inbound(1);
        let versioned = Versioned { version: value.version(), value: Arc::new(value) };
        let whole = encode(&ResourceName::Inbound, &versioned);
        for length in 0..whole.body.len() {
            let cut = v1::Resource { body: whole.body.slice(..length), ..whole.clone() };
            assert_eq!(decode(&cut).expect_err("cut").resource, "inbound");
        }
        let twice = v1::Resource { body: [whole.body.as_ref(), b"1"].concat().into(), ..whole.clone() };
        assert!(decode(&twice).expect_err("more").message.contains("followed by"));
        let foreign = v1::Resource { name: "service/a".into(), ..whole.clone() };
        assert!(decode(&foreign).expect_err("foreign").message.contains("that of inbound"));
        assert!(decode(&v1::Resource { name: "nonsense".into(), ..whole }).is_err());
    }

    #[test]
    fn root_states_round_trip() {
        for (root, state) in [
            (Root::Own, RootState::Resolved(String::new())),
            (Root::Host("reviews".into()), RootState::Resolved("reviews.default.svc.cluster.local".into())),
            (Root::Host("nowhere".into()), RootState::Unknown),
        ] {
            assert_eq!(decode_root(&encode_root(&root, &state)), Some((root, state)));
        }
        assert_eq!(decode_root(&v1::RootState { root: "x".into(), ..v1::RootState::default() }), None);
    }
}

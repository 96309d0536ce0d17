//! What the control plane sends, as a proxy decodes it.

#![no_main]

use prost::Message as _;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(response) = weft_proto::v1::DeltaResponse::decode(data) else { return };
    let Some(weft_proto::v1::delta_response::Message::Update(update)) = response.message else { return };
    for resource in &update.resources {
        if let Ok((name, versioned)) = weft_xds::decode(resource) {
            // What was understood can be sent on and is understood again.
            let again = weft_xds::decode(&weft_xds::encode(&name, &versioned)).expect("our own encoding");
            assert_eq!(again.1.value, versioned.value);
        }
    }
    for root in &update.roots {
        let _unknown = weft_xds::decode_root(root);
    }
});

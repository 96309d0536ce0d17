//! RFC 7541's examples, and both directions against each other.

use super::{Decoder, Encoder, Field, table::Name};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).expect("hex")).collect()
}

fn field(text: &str) -> Field {
    let (name, value) = text[1..].split_once(": ").map(|(n, v)| (&text[..n.len() + 1], v)).expect("name: value");
    Name::parse(name.as_bytes()).field(Bytes::copy_from_slice(value.as_bytes()))
}

fn fields(text: &[&str]) -> Vec<Field> {
    text.iter().map(|t| field(t)).collect()
}

fn decode(decoder: &mut Decoder, hex: &str) -> Vec<Field> {
    let mut out = Vec::new();
    decoder.decode(&bytes(hex), |field, _| out.push(field)).expect("decodes");
    out
}

fn refused(block: &[u8]) -> bool {
    Decoder::default().decode(block, |_, _| ()).is_err()
}

/// Appendix C.2: one field each.
#[test]
fn rfc7541_c2_single_fields() {
    let check = |hex: &str, want: &str, table: usize| {
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, hex), fields(&[want]));
        assert_eq!(decoder.table().state().0, table);
    };
    check("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header", 55);
    check("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", 0);
    check("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", 0);
    check("82", ":method: GET", 0);
}

/// Appendix C.3 (plain) and C.4 (Huffman): three requests on one connection.
#[test]
fn rfc7541_c3_c4_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for [first, second, third] in [plain, huffman] {
        let mut decoder = Decoder::default();
        let host = ":authority: www.example.com";
        assert_eq!(decode(&mut decoder, first), fields(&[":method: GET", ":scheme: http", ":path: /", host]));
        assert_eq!(decoder.table().state(), (57, fields(&[host])));
        let want = [":method: GET", ":scheme: http", ":path: /", host, "cache-control: no-cache"];
        assert_eq!(decode(&mut decoder, second), fields(&want));
        assert_eq!(decoder.table().state(), (110, fields(&["cache-control: no-cache", host])));
        let want = [":method: GET", ":scheme: https", ":path: /index.html", host, "custom-key: custom-value"];
        assert_eq!(decode(&mut decoder, third), fields(&want));
        assert_eq!(decoder.table().state(), (164, fields(&["custom-key: custom-value", "cache-control: no-cache", host])));
    }
}

/// Appendix C.5 (plain) and C.6 (Huffman): three responses through a table of 256 bytes, with evictions.
#[test]
fn rfc7541_c5_c6_responses() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 \
         3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 \
         514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae \
         43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af \
         2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let (date, later) = ("date: Mon, 21 Oct 2013 20:13:21 GMT", "date: Mon, 21 Oct 2013 20:13:22 GMT");
    let location = "location: https://www.example.com";
    let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    for [first, second, third] in [plain, huffman] {
        let mut decoder = Decoder::default();
        // The examples' decoder has announced 256 bytes; the encoder says so with an update of 256.
        decode(&mut decoder, "3fe1 01");
        let want = [":status: 302", "cache-control: private", date, location];
        assert_eq!(decode(&mut decoder, first), fields(&want));
        assert_eq!(decoder.table().state(), (222, fields(&[location, date, "cache-control: private", ":status: 302"])));
        assert_eq!(decode(&mut decoder, second), fields(&[":status: 307", "cache-control: private", date, location]));
        assert_eq!(decoder.table().state(), (222, fields(&[":status: 307", location, date, "cache-control: private"])));
        let want = [":status: 200", "cache-control: private", later, location, "content-encoding: gzip", cookie];
        assert_eq!(decode(&mut decoder, third), fields(&want));
        assert_eq!(decoder.table().state(), (215, fields(&[cookie, "content-encoding: gzip", later])));
    }
}

#[test]
fn rfc7541_5_1_numbers() {
    assert!(refused(&[0xff]), "ends within a number");
    assert!(refused(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x01]), "too large");
    assert!(refused(&[0x80]), "index 0");
    assert!(refused(&[0xbe]), "an empty dynamic table has no entry 62");
    assert!(!refused(&[0x82]));
}

#[test]
fn rfc7541_4_2_and_6_3_size_updates() {
    assert!(!refused(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), "several at the begin");
    assert!(refused(&[0x82, 0x20]), "not after a field");
    assert!(refused(&[0x3f, 0xe2, 0x1f]), "4097 is more than was announced");
}

#[test]
fn rfc7541_5_2_strings() {
    assert!(refused(&[0x00, 0x05, b'a']), "longer than the block");
    assert!(refused(&[0x00, 0x81, 0x00, 0x00]), "a bad Huffman code");
}

#[test]
fn rfc9113_8_2_1_what_no_field_may_hold() {
    let bad = |name: &[u8], value: &[u8]| matches!(Name::parse(name).field(Bytes::copy_from_slice(value)), Field::Bad(_));
    for value in [&b" a"[..], b"a ", b"\ta", b"a\t", b"a\0b", b"a\rb", b"a\nb"] {
        assert!(bad(b"x", value), "{value:?}");
    }
    for name in [&b"X"[..], b"x y", b"x:y", b"", b":x", b"x\0", b"\x80"] {
        assert!(bad(name, b"v"), "{name:?}");
    }
    assert!(!bad(b"x", b"") && !bad(b"x", b"a b") && !bad(b"x", b"\xff"));
    for path in [&b""[..], b"a", b"http://x/", b"/a#b", b"*a"] {
        assert!(bad(b":path", path), "{path:?}");
    }
    for (name, value) in
        [(&b":authority"[..], &b"u@h"[..]), (b":authority", b""), (b":scheme", b"ftp"), (b":status", b"20"), (b":method", b"A B")]
    {
        assert!(bad(name, value));
    }
}

/// A bad field is an entry of the table nevertheless: both ends must count alike.
#[test]
fn bad_fields_keep_their_place_in_the_table() {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    let block = bytes("4001 5801 61  4001 7801 62  bf be");
    decoder.decode(&block, |field, size| got.push((field, size))).expect("decodes");
    assert!(matches!(got[0], (Field::Bad(_), 34)) && matches!(got[2], (Field::Bad(_), 34)));
    assert_eq!(got[1].0, got[3].0);
}

#[test]
fn what_is_encoded_decodes_and_repeats_get_short() {
    for huffman in [false, true] {
        let (mut encoder, mut decoder) = (Encoder::new(huffman), Decoder::default());
        let mut lengths = Vec::new();
        for round in 0..40 {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            encoder.pseudo(":status", b"200", &mut out);
            encoder.pseudo(":path", b"/package.Service/Method", &mut out);
            let id = format!("{round:032x}");
            let headers = [("content-type", "application/grpc"), ("x-request-id", &id), ("x-same", "value"), ("authorization", "secret")];
            for (name, value) in headers {
                let name = HeaderName::from_lowercase(name.as_bytes()).expect("name");
                encoder.header(&name, &HeaderValue::from_str(value).expect("value"), &mut out);
            }
            let mut got = Vec::new();
            decoder.decode(&out, |field, _| got.push(field)).expect("decodes");
            let id = format!("x-request-id: {id}");
            let want = [
                ":status: 200",
                ":path: /package.Service/Method",
                "content-type: application/grpc",
                &id,
                "x-same: value",
                "authorization: secret",
            ];
            assert_eq!(got, fields(&want), "round {round}");
            lengths.push(out.len());
        }
        assert!(lengths[39] < if huffman { 40 } else { 60 }, "{lengths:?}");
        assert!(!decoder.table().state().1.contains(&field("authorization: secret")), "secrets are not kept");
    }
}

#[test]
fn the_tables_stay_in_step_through_evictions_and_resizes() {
    let (mut encoder, mut decoder) = (Encoder::new(false), Decoder::default());
    let mut seed = 1u64;
    for round in 0..2_000u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if round % 97 == 0 {
            encoder.set_table_size((seed >> 40) as u32 % 5000);
            encoder.set_table_size((seed >> 33) as u32 % 5000);
        }
        let mut out = Vec::new();
        let mut want = Vec::new();
        encoder.begin(&mut out);
        for i in 0..(seed >> 60) {
            let (name, value) =
                (format!("n-{}", (seed >> (i * 2)) % 50), format!("v-{}", (seed >> (i * 3)) % 30).repeat(1 + (seed % 9) as usize));
            let name = HeaderName::from_lowercase(name.as_bytes()).expect("name");
            let value = HeaderValue::from_str(&value).expect("value");
            encoder.header(&name, &value, &mut out);
            want.push(Field::Header(name, value));
        }
        let mut got = Vec::new();
        decoder.decode(&out, |field, _| got.push(field)).expect("decodes");
        assert_eq!(got, want, "round {round}");
    }
}

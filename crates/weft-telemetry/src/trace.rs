//! W3C Trace Context, level 1: `traceparent`.

use std::fmt;

/// Longest `tracestate` that is passed on, in bytes (§3.3.1.5: at least 512 must be).
pub const TRACESTATE_BYTES_MAX: usize = 2_048;

/// A span's place in its trace. Ids are never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Trace id.
    pub trace_id: [u8; 16],
    /// Id of the caller's span when parsed; of this span when made.
    pub span_id: [u8; 8],
    /// Does the caller record?
    pub sampled: bool,
}

impl TraceContext {
    /// Parses a `traceparent`. Strict as §3.2.2 asks: lower-case hex, exact length for version 00, no version ff, no zero ids.
    pub fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        let version = hex_bytes::<1>(bytes.get(..2)?)?[0];
        let exact = bytes.len() == 55;
        // A later version may append fields after another dash.
        let longer = version != 0 && bytes.get(55) == Some(&b'-');
        if version == 0xff || !(exact || longer) {
            return None;
        }
        if [2, 35, 52].iter().any(|at| bytes.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = hex_bytes::<16>(bytes.get(3..35)?)?;
        let span_id = hex_bytes::<8>(bytes.get(36..52)?)?;
        let flags = hex_bytes::<1>(bytes.get(53..55)?)?[0];
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
    /// A new trace from random bits.
    pub fn root(random: u128, span: u64, sampled: bool) -> Self {
        Self { trace_id: random.max(1).to_be_bytes(), span_id: span.max(1).to_be_bytes(), sampled }
    }
    /// A span under this one, from random bits.
    pub fn child(&self, span: u64) -> Self {
        Self { span_id: span.max(1).to_be_bytes(), ..*self }
    }
    /// Trace id in hex.
    pub fn trace_hex(&self) -> String {
        hex(&self.trace_id)
    }
    /// Span id in hex.
    pub fn span_hex(&self) -> String {
        hex(&self.span_id)
    }
}

/// The header's value.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_hex(), self.span_hex(), u8::from(self.sampled))
    }
}

/// Lower-case hex of `bytes`.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Exactly `N` bytes of lower-case hex.
pub(crate) fn hex_bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_it_writes() {
        let context = TraceContext::parse(GOOD).expect("valid");
        assert_eq!(context.to_string(), GOOD);
        let child = context.child(7);
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
        assert_eq!(TraceContext::root(0, 0, false).to_string(), "00-00000000000000000000000000000001-0000000000000001-00");
    }

    #[test]
    fn refuses_what_the_standard_refuses() {
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        assert!(TraceContext::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later").is_some());
    }
}

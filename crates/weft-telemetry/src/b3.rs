//! B3: the trace headers of Zipkin, single (`b3`) and multiple (`x-b3-traceid` …), read and written.

use crate::{TraceContext, trace::hex_bytes};

/// A context as B3 carries it: the decision may be left to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct B3Context {
    /// The caller's span.
    pub context: TraceContext,
    /// Was a decision carried? If not, `context.sampled` is false and means nothing.
    pub decided: bool,
}

impl B3Context {
    /// From `b3: {trace}-{span}[-{decision}[-{parent}]]`.
    pub fn parse_single(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let (trace, span) = (parts.next()?, parts.next()?);
        Self::of(trace, span, parts.next())
    }
    /// From `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and `x-b3-flags`.
    pub fn parse_multiple(trace: &str, span: &str, sampled: Option<&str>, flags: Option<&str>) -> Option<Self> {
        Self::of(trace, span, if flags == Some("1") { Some("d") } else { sampled })
    }

    fn of(trace: &str, span: &str, decision: Option<&str>) -> Option<Self> {
        let trace_id = match trace.len() {
            32 => hex_bytes::<16>(trace.as_bytes())?,
            // 64 bits: the upper half is 0.
            16 => {
                let mut id = [0; 16];
                id[8..].copy_from_slice(&hex_bytes::<8>(trace.as_bytes())?);
                id
            }
            _ => return None,
        };
        let span_id = hex_bytes::<8>(span.as_bytes())?;
        let sampled = match decision {
            Some("1" | "d" | "true") => Some(true),
            Some("0" | "false") => Some(false),
            _ => None,
        };
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        let context = TraceContext { trace_id, span_id, sampled: sampled.unwrap_or_default() };
        valid.then_some(Self { context, decided: sampled.is_some() })
    }
}

impl TraceContext {
    /// The value of `b3`.
    pub fn b3(&self) -> String {
        format!("{}-{}-{}", self.trace_hex(), self.span_hex(), u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_and_multiple() {
        let check = |found: Option<B3Context>, want: Option<(&str, bool, bool)>| {
            assert_eq!(found.map(|b| (b.context.b3(), b.decided)), want.map(|(text, _, decided)| (text.to_owned(), decided)));
        };
        let whole = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
        check(B3Context::parse_single(whole), Some((whole, true, true)));
        check(B3Context::parse_single(&format!("{whole}-05e3ac9a4f6e3b90")), Some((whole, true, true)));
        let short = "0000000000000000a3ce929d0e0e4736-00f067aa0ba902b7-0";
        check(B3Context::parse_single("a3ce929d0e0e4736-00f067aa0ba902b7"), Some((short, false, false)));
        check(B3Context::parse_multiple("a3ce929d0e0e4736", "00f067aa0ba902b7", Some("0"), None), Some((short, false, true)));
        let debug = B3Context::parse_multiple("a3ce929d0e0e4736", "00f067aa0ba902b7", None, Some("1"));
        assert!(debug.is_some_and(|b| b.decided && b.context.sampled));
        for bad in ["", "0", "1", "x-y", "a3ce929d0e0e4736", "A3CE929D0E0E4736-00f067aa0ba902b7", "0000000000000000-00f067aa0ba902b7"] {
            check(B3Context::parse_single(bad), None);
        }
    }
}

//! The Huffman code of RFC 7541 Appendix B.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and a longer code begins where the
//! shorter ones end. So the lengths alone define it, and both directions' tables are computed from them when this is compiled.

/// Length in bits of each byte's code, and of the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST: usize = 30;
/// Codes up to this length are found by one look into a table.
const QUICK: u32 = 10;
const END: u16 = 256;

struct Tables {
    /// Code of each symbol, in the low bits.
    codes: [u32; 257],
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    /// First code of each length.
    first: [u32; LONGEST + 1],
    /// Where the symbols of each length begin in `symbols`.
    start: [u16; LONGEST + 1],
    /// How many there are of each length.
    count: [u16; LONGEST + 1],
    /// For the next ten bits: symbol and length; length 0 where the code is longer.
    quick: [(u8, u8); 1 << QUICK],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut t = Tables {
        codes: [0; 257],
        symbols: [0; 257],
        first: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        quick: [(0, 0); 1 << QUICK],
    };
    let (mut length, mut code, mut filled) = (1, 0u32, 0usize);
    while length <= LONGEST {
        code <<= 1;
        t.first[length] = code;
        t.start[length] = filled as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                t.codes[symbol] = code;
                t.symbols[filled] = symbol as u16;
                t.count[length] += 1;
                fill_quick(&mut t.quick, symbol, length as u32, code);
                code += 1;
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    t
}

const fn fill_quick(quick: &mut [(u8, u8); 1 << QUICK], symbol: usize, length: u32, code: u32) {
    if length > QUICK {
        return;
    }
    let mut at = (code << (QUICK - length)) as usize;
    let end = at + (1 << (QUICK - length));
    while at < end {
        quick[at] = (symbol as u8, length as u8);
        at += 1;
    }
}

/// Appends the decoded text; `false` when the code is not legal (RFC 7541 §5.2): the symbol for the end of the string, padding
/// longer than 7 bits or not of ones.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let t = &TABLES;
    let (mut bits, mut have) = (0u64, 0u32);
    let mut rest = coded.iter();
    loop {
        while have <= 56 {
            let Some(byte) = rest.next() else { break };
            bits = (bits << 8) | u64::from(*byte);
            have += 8;
        }
        if have == 0 {
            return true;
        }
        // The next ten bits, padded by ones as an encoder pads.
        let next = if have >= QUICK { bits >> (have - QUICK) } else { (bits << (QUICK - have)) | ((1 << (QUICK - have)) - 1) };
        let (symbol, length) = t.quick[(next & ((1 << QUICK) - 1)) as usize];
        let length = u32::from(length);
        if length != 0 && length <= have {
            out.push(symbol);
            have -= length;
            continue;
        }
        if have < 8 && rest.len() == 0 && bits & ((1 << have) - 1) == (1 << have) - 1 {
            return true;
        }
        let Some((symbol, length)) = long_code(bits, have) else { return false };
        if symbol == END {
            return false;
        }
        out.push(symbol as u8);
        have -= length;
    }
}

/// A code of more than ten bits.
fn long_code(bits: u64, have: u32) -> Option<(u16, u32)> {
    let t = &TABLES;
    for length in QUICK + 1..=LONGEST as u32 {
        if length > have {
            return None;
        }
        let at = length as usize;
        let code = ((bits >> (have - length)) & ((1 << length) - 1)) as u32;
        if code >= t.first[at] && code < t.first[at] + u32::from(t.count[at]) {
            return Some((t.symbols[usize::from(t.start[at]) + (code - t.first[at]) as usize], length));
        }
    }
    None
}

/// Bytes that `text` takes when it is coded.
pub(super) fn coded_len(text: &[u8]) -> usize {
    text.iter().map(|b| usize::from(LENGTHS[usize::from(*b)])).sum::<usize>().div_ceil(8)
}

/// Appends the coded text, padded by ones.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for byte in text {
        let symbol = usize::from(*byte);
        let length = u32::from(LENGTHS[symbol]);
        bits = (bits << length) | u64::from(TABLES.codes[symbol]);
        have += length;
        while have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    if have > 0 {
        out.push(((bits << (8 - have)) | ((1 << (8 - have)) - 1)) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out);
        assert_eq!(out.len(), coded_len(text));
        out
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).then_some(out)
    }

    #[test]
    fn rfc7541_appendix_b_spot_checks() {
        assert_eq!(TABLES.codes[usize::from(b'0')], 0x0);
        assert_eq!(TABLES.codes[usize::from(b'X')], 0xfc);
        assert_eq!(TABLES.codes[0], 0x1ff8);
        assert_eq!(TABLES.codes[0xff], 0x3ff_ffee);
        assert_eq!(TABLES.codes[256], 0x3fff_ffff);
        assert_eq!(coded(b"www.example.com"), [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]);
    }

    #[test]
    fn every_byte_comes_back_alone_and_among_others() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&coded(&all)).as_deref(), Some(&all[..]));
        for byte in 0..=255u8 {
            for repeat in 1..9 {
                let text = vec![byte; repeat];
                assert_eq!(decoded(&coded(&text)), Some(text), "{byte} x {repeat}");
            }
        }
    }

    /// RFC 7541 §5.2: what is a decoding error.
    #[test]
    fn illegal_codes_are_refused() {
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the symbol for the end of the string");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), None, "the same, shorter");
        assert_eq!(decoded(&[0x07, 0xff]), None, "padding longer than 7 bits");
        assert_eq!(decoded(&[0x00]), None, "padding that is not of ones");
        assert_eq!(decoded(&[0xff]), None, "eight bits of padding alone");
        assert_eq!(decoded(&[0x07]), Some(b"0".to_vec()));
        assert_eq!(decoded(&[]), Some(Vec::new()));
    }
}

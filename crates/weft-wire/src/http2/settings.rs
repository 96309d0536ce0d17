//! Settings (RFC 9113 §6.5, RFC 8441 §3).

use super::{
    error::{ErrorCode, Violation},
    frame::number,
};

pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// The largest window.
pub(crate) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// Every window's size before settings say otherwise.
pub(crate) const WINDOW_DEFAULT: i64 = 65_535;

/// What a peer has announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub header_table_size: u32,
    pub max_concurrent_streams: Option<u32>,
    pub initial_window: i64,
    pub max_frame: usize,
    pub max_header_list: Option<u32>,
    pub connect_protocol: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            max_concurrent_streams: None,
            initial_window: WINDOW_DEFAULT,
            max_frame: super::frame::FRAME_BYTES_MAX,
            max_header_list: None,
            connect_protocol: false,
        }
    }
}

impl Settings {
    /// Takes over a frame's payload, in its order (§6.5.3).
    pub(crate) fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), Violation> {
        for setting in payload.chunks_exact(6) {
            let value = number(setting, 2);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                HEADER_TABLE_SIZE => self.header_table_size = value,
                ENABLE_PUSH if value > 1 => return Err(Violation::protocol("SETTINGS_ENABLE_PUSH is neither 0 nor 1")),
                ENABLE_PUSH if value == 1 && from_server => return Err(Violation::protocol("a server wants to be pushed to")),
                MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return Err(Violation::Connection(ErrorCode::FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large"));
                }
                INITIAL_WINDOW_SIZE => self.initial_window = i64::from(value),
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Violation::protocol("SETTINGS_MAX_FRAME_SIZE is out of its range"));
                }
                MAX_FRAME_SIZE => self.max_frame = value as usize,
                MAX_HEADER_LIST_SIZE => self.max_header_list = Some(value),
                ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.connect_protocol) => {
                    return Err(Violation::protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL is illegal or was taken back"));
                }
                ENABLE_CONNECT_PROTOCOL => self.connect_protocol = value == 1,
                // Unknown settings are ignored (§6.5.2).
                _ => {}
            }
        }
        Ok(())
    }
}

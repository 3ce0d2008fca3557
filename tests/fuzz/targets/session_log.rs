//! A frame of a session log: what is read is written and read again without a change. The first byte of the input is the kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_protocol::session_log::frame::{CHECKSUM_BYTES, HEAD_BYTES};
use ndt_protocol::session_log::{Frame, Kind};

const BIN_WIDTH_US: u32 = 20_000;

fuzz_target!(|input: &[u8]| {
    let Some((kind, payload)) = input.split_first() else { return };
    let Some(kind) = Kind::from_number(u16::from(*kind)) else { return };
    let Some(frame) = Frame::read(kind, payload) else { return };
    assert_eq!(frame.kind(), kind);
    let (mut bytes, mut again) = (Vec::new(), Vec::new());
    frame.put(BIN_WIDTH_US, &mut bytes);
    let written = &bytes[HEAD_BYTES..bytes.len() - CHECKSUM_BYTES];
    let read = Frame::read(kind, written).unwrap_or_else(|| panic!("what is written is read"));
    read.put(BIN_WIDTH_US, &mut again);
    assert_eq!(bytes, again);
});

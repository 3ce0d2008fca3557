//! The bytes of a session log: the golden file, round trips, and every place at which a file can be cut.

#[path = "golden/check.rs"]
mod golden;

use ndt_protocol::bin::{Arrival, ClockOffset, Due, Velocity};
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::session_log::frame::{self, HEAD_BYTES};
use ndt_protocol::session_log::{
    self, BinTaken, Frame, Header, Kind, PREFACE_BYTES, Reader, ResultTaken, Thread, file_name, preface,
};
use ndt_protocol::wire::{Description, OutputDescription};
use ndt_protocol::{Bin, CountRange, Estimate, Quality, Reasons};
use proptest::prelude::*;
use std::path::Path;

const BIN_WIDTH_US: u32 = 20_000;

fn header(file: u32) -> Header {
    let output = |name: &str| OutputDescription {
        name: name.to_owned(),
        unit: "m/s".to_owned(),
        offset_ns: -10_000_000,
    };
    Header {
        session: "2026-11-29T14-05-12.345Z-4711".to_owned(),
        file,
        program: "ndtd 0.1.0".to_owned(),
        commit: None,
        started_unix_ns: 1_795_960_000_000_000_000,
        started_monotonic_ns: 1_000_000_000,
        bundle_path: "/models/m1".into(),
        channel_ids: vec![7, -3, 12, 4, 5],
        description: Description::Estimates {
            bundle: "ab".repeat(32),
            engine: "native f32 avx2".to_owned(),
            bin_width_us: BIN_WIDTH_US,
            unit_ids: vec![7, 9],
            velocity_dims: 2,
            velocity_offset_ns: -10_000_000,
            outputs: ["vx", "vy"].map(output).to_vec(),
        },
        readout: Some(Readout {
            dims: 2,
            unit: "m/s".to_owned(),
            lag_ms: 0.0,
            series: "hand_vel".to_owned(),
        }),
        instruction_set: "avx2".to_owned(),
        precision: "f32".to_owned(),
        cpu: "a processor".to_owned(),
        cpu_features: vec!["avx2".to_owned(), "portable".to_owned()],
        configuration: "bundle = \"m1\"\n".to_owned(),
    }
}

fn bin() -> Bin {
    let mut bin = Bin::empty();
    bin.fill([2.0, f32::NAN, -1.5, 900.0, 0.0].into_iter(), CountRange::new(50, 100.0));
    (bin.seq, bin.stream, bin.source_ns, bin.arrival_ns) = (41, 7, -20_000_000, 1_200_000_000);
    (bin.segment_start, bin.undescribed, bin.clock_jumped, bin.sent_ns) = (true, true, true, 99);
    bin.offset = Some(ClockOffset { offset_ns: -4, uncertainty_ns: 250 });
    bin.due = Due::At(1_199_000_000);
    bin
}

fn estimate() -> Estimate {
    let mut estimate = Estimate::zero(2, 2);
    (estimate.seq, estimate.stream, estimate.published_ns) = (41, 7, 1_201_000_000);
    (estimate.quality, estimate.reasons) = (Quality::Gap, Reasons::MISSING_BIN);
    estimate.rates_mut().copy_from_slice(&[0.5, 12.25]);
    estimate.outputs_mut().copy_from_slice(&[-0.125, 0.25]);
    estimate
}

/// A frame of each kind but the header.
fn frames() -> Vec<Frame> {
    let mut velocity = Velocity::default();
    velocity[..2].copy_from_slice(&[0.5, -0.5]);
    let arrival = Arrival {
        seq: 41,
        stream: 7,
        source_ns: -20_000_000,
        arrival_ns: 1_200_000_000,
        due: Due::Before,
        offset: None,
        velocity: Some(velocity),
    };
    let plain = Arrival { due: Due::At(7), velocity: None, ..arrival };
    let taken = ResultTaken { stream: 7, seq: 41, decoded_ns: 1_200_030_000, now_ns: 1_200_040_000 };
    vec![
        Frame::Bin(Box::new(BinTaken { bin: bin(), waiting: 3, now_ns: 1_200_010_000 })),
        Frame::Arrival(arrival),
        Frame::Arrival(plain),
        Frame::Silence(Reasons::PEER_GONE),
        Frame::Result(taken),
        Frame::Tick(1_200_050_000),
        Frame::Estimate(Box::new(estimate())),
        Frame::Dropped(Thread::Publish, 12),
        Frame::Event(1_200_060_000, "the source is silent".to_owned()),
        Frame::Order(1_200_070_000, Thread::Decode, "reset".to_owned()),
        Frame::End(1_200_080_000, String::new()),
    ]
}

/// The bytes of a file with these frames, and where each frame ends.
fn file(number: u32, frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = preface().to_vec();
    frame::put_header(&header(number), &mut bytes);
    let mut ends = vec![bytes.len()];
    for frame in frames {
        frame.put(BIN_WIDTH_US, &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// The frames of a frame's bytes, as text that compares all of it.
fn text(frame: &Frame) -> String {
    let mut bytes = Vec::new();
    frame.put(BIN_WIDTH_US, &mut bytes);
    format!("{:?} {bytes:02x?}", frame.kind())
}

fn read_all(path: &Path) -> (Vec<String>, Reader) {
    let mut reader = Reader::open(path).unwrap();
    let mut found = Vec::new();
    while let Some(frame) = reader.next_of(Kind::ALL).unwrap() {
        found.push(text(&frame));
    }
    (found, reader)
}

#[test]
fn a_file_has_the_golden_bytes_and_is_read_to_its_end() {
    let (bytes, _) = file(0, &frames());
    golden::check(&format!("session-v{}.ndtlog", session_log::VERSION), &bytes);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(file_name(0)), &bytes).unwrap();
    let (found, reader) = read_all(folder.path());
    assert_eq!(found, frames().iter().map(text).collect::<Vec<_>>());
    assert_eq!((reader.tail(), reader.header()), (None, &header(0)));
    assert_eq!(reader.progress(), (bytes.len() as u64, bytes.len() as u64));
}

#[test]
fn a_bin_is_read_as_it_was_written() {
    let mut bytes = Vec::new();
    frame::put_bin(&bin(), BIN_WIDTH_US, 3, 9, &mut bytes);
    let payload = &bytes[HEAD_BYTES..bytes.len() - 4];
    let Some(Frame::Bin(found)) = Frame::read(Kind::Bin, payload) else { panic!("expected a bin") };
    let (found, bin) = (found.bin, bin());
    assert_eq!(found.counts(), bin.counts());
    assert!((0..6).all(|channel| found.is_valid(channel) == bin.is_valid(channel)));
    assert_eq!((&found.implausible, &found.too_high), (&bin.implausible, &bin.too_high));
    assert_eq!(found.invalid_channels(), bin.invalid_channels());
    assert_eq!((found.offset, found.clock, found.due), (bin.offset, bin.clock, bin.due));
    assert_eq!(
        (found.segment_start, found.undescribed, found.second_source, found.clock_jumped),
        (true, true, false, true)
    );
    // No frame is read from less or more than its bytes.
    for frame in
        frames().iter().filter(|frame| !matches!(frame, Frame::Event(..) | Frame::Order(..) | Frame::End(..)))
    {
        let mut bytes = Vec::new();
        frame.put(BIN_WIDTH_US, &mut bytes);
        let mut payload = bytes[HEAD_BYTES..bytes.len() - 4].to_vec();
        assert!((0..payload.len()).all(|length| Frame::read(frame.kind(), &payload[..length]).is_none()));
        payload.push(0);
        assert!(Frame::read(frame.kind(), &payload).is_none(), "{:?}", frame.kind());
    }
}

#[test]
fn a_file_that_is_cut_at_any_byte_is_read_to_its_last_whole_frame() {
    let (bytes, ends) = file(0, &frames());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file_name(0));
    for length in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let whole = ends.iter().filter(|end| **end <= length).count();
        if whole == 0 {
            let error = Reader::open(folder.path()).err().map(|error| error.to_string()).unwrap();
            assert!(error.contains("which are no whole header"), "{length}: {error}");
            continue;
        }
        let (found, reader) = read_all(folder.path());
        assert_eq!(found.len(), whole - 1, "cut at {length}");
        let left_out = reader.tail().map_or(0, |tail| tail.bytes);
        assert_eq!(left_out, (length - ends[whole - 1]) as u64, "cut at {length}");
    }
}

#[test]
fn files_follow_each_other_and_what_lies_behind_a_torn_one_is_left_out() {
    let all = frames();
    let folder = tempfile::tempdir().unwrap();
    let write =
        |number: u32, bytes: &[u8]| std::fs::write(folder.path().join(file_name(number)), bytes).unwrap();
    let files: Vec<Vec<u8>> =
        [&all[..3], &all[3..6], &all[6..]].into_iter().zip(0..).map(|(part, at)| file(at, part).0).collect();
    files.iter().zip(0..).for_each(|(bytes, number)| write(number, bytes));
    let (found, reader) = read_all(folder.path());
    assert_eq!((found, reader.tail()), (all.iter().map(text).collect(), None));
    // A file that does not belong to the log.
    let mut other = preface().to_vec();
    frame::put_header(&Header { session: "another".to_owned(), ..header(2) }, &mut other);
    write(2, &other);
    let (found, reader) = read_all(folder.path());
    assert_eq!((found.len(), reader.tail().unwrap().found), (6, "the header of another session"));
    write(2, &files[2]);
    let mut torn = files[1].clone();
    let last = torn.len() - 1;
    torn[last] ^= 1;
    write(1, &torn);
    let (found, reader) = read_all(folder.path());
    let tail = reader.tail().unwrap();
    assert_eq!((found.len(), tail.found), (5, "a frame with another checksum"));
    assert_eq!(tail.bytes, torn.len() as u64 - tail.at + files[2].len() as u64);
    // The folder above is enough where there is one log in it.
    let above = tempfile::tempdir().unwrap();
    std::fs::create_dir(above.path().join("one")).unwrap();
    std::fs::write(above.path().join("one").join(file_name(0)), &files[0]).unwrap();
    assert_eq!(read_all(above.path()).0.len(), 3);
}

#[test]
fn what_is_no_log_or_of_another_version_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file_name(0));
    let refused = |path: &Path| Reader::open(path).err().map(|error| error.to_string()).unwrap();
    assert!(refused(&path).ends_with("found nothing"));
    assert!(refused(folder.path()).ends_with("found a folder without 000000.ndtlog"));
    std::fs::write(&path, b"something else than a log").unwrap();
    assert!(refused(folder.path()).contains("found other bytes in"));
    let (mut bytes, _) = file(0, &[]);
    bytes[PREFACE_BYTES - 2] = 99;
    std::fs::write(&path, &bytes).unwrap();
    assert!(refused(folder.path()).ends_with("found version 99"));
    let (mut bytes, _) = file(0, &[]);
    let start = bytes.len();
    frame::put_tick(1, &mut bytes);
    // A kind that this version does not have, in a frame that is whole.
    bytes[start + 4] = 200;
    let end = bytes.len() - 4;
    let sum = frame::checksum(&bytes[start..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&sum);
    std::fs::write(&path, &bytes).unwrap();
    let error = Reader::open(folder.path()).unwrap().next_of(Kind::ALL).err().map(|error| error.to_string());
    assert!(error.unwrap().contains("found kind 200"));
}

/// The page documents every kind of frame by number and name, and the version.
#[test]
fn the_page_has_every_kind_and_the_version() {
    let page = include_str!("../SESSION-LOG.md");
    for kind in Kind::ALL {
        let row = format!("| {} | `{}` |", *kind as u16, kind.name());
        assert!(page.contains(&row), "expected a row {row} in SESSION-LOG.md");
    }
    assert!(page.contains(&format!("\n| {} | ", session_log::VERSION)), "expected a row of the version");
    let listed = |number: u16| Kind::from_number(number).is_some();
    assert!(Kind::ALL.iter().all(|kind| Kind::from_number(*kind as u16) == Some(*kind)) && !listed(0));
}

proptest! {
    /// Bytes that were changed anywhere never panic, and never give a frame that was not written.
    #[test]
    fn a_changed_byte_ends_the_log_or_is_refused(at in 0usize..2_000, bit in 0u8..8) {
        let (mut bytes, ends) = file(0, &frames());
        let at = PREFACE_BYTES + at % (bytes.len() - PREFACE_BYTES);
        bytes[at] ^= 1 << bit;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file_name(0)), &bytes).unwrap();
        if let Ok(mut reader) = Reader::open(folder.path()) {
            let mut found = Vec::new();
            while let Ok(Some(frame)) = reader.next_of(Kind::ALL) {
                found.push(text(&frame));
            }
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(found.len() + 1, whole);
            prop_assert!(found.iter().zip(frames()).all(|(found, written)| *found == text(&written)));
        }
    }
}

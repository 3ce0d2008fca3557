//! The bytes between programs: golden files, round trips, and every reason to refuse a message.

#[path = "golden/check.rs"]
mod golden;

use ndt_protocol::wire::{self, BinStamp, Description, OutputDescription, WireError};
use ndt_protocol::{Bin, CountRange, Estimate, Quality, Reasons};
use proptest::prelude::*;

/// Compares frames, each preceded by its length, with their golden file of this wire version.
fn check_golden(name: &str, frames: &[&[u8]]) {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend(*frame);
    }
    golden::check(&format!("{name}-v{}.frames", wire::VERSION), &bytes);
}

fn stamp() -> BinStamp {
    BinStamp {
        seq: 0x0102_0304_0506_0708,
        stream: 0x1112_1314_1516_1718,
        source_ns: -5_000_000,
        sent_ns: 0x2122_2324_2526_2728,
        bin_width_us: 20_000,
        segment_start: true,
    }
}

fn estimate() -> Estimate {
    let mut estimate = Estimate::zero(3, 2);
    estimate.seq = 41;
    estimate.stream = 7;
    estimate.source_ns = 1_500_000_000;
    estimate.arrival_ns = 1_000;
    estimate.decoded_ns = 2_000;
    estimate.published_ns = 3_000;
    estimate.velocity_for_ns = 1_490_000_000;
    estimate.clock_offset_ns = -499_000;
    estimate.clock_uncertainty_ns = 1_250;
    estimate.age_ns = -1_499_498_000;
    estimate.quality = Quality::Gap;
    estimate.reasons = Reasons::MISSING_BIN.with(Reasons::SHORT_HISTORY);
    estimate.lag_bins = 258;
    estimate.bundle = std::array::from_fn(|i| i as u8);
    estimate.rates_mut().copy_from_slice(&[0.5, 12.25, 100.0]);
    estimate.velocity_mut().copy_from_slice(&[-0.125, 0.25]);
    estimate
}

#[test]
fn a_bin_has_the_golden_bytes() {
    let header = wire::bin_header(&stamp(), 4);
    let mut counts = Vec::new();
    wire::put_f32(&[0.0, 2.0, f32::NAN, 1.0], &mut counts);
    let frames: [&[u8]; 3] = [wire::TOPIC_BIN, &header, &counts];
    check_golden("bin", &frames);

    let mut bin = Bin::empty();
    assert_eq!(wire::read_bin(&frames, 4, CountRange::new(50, 20.0), 99, &mut bin), Ok(stamp()));
    assert_eq!(
        (bin.seq, bin.stream, bin.source_ns, bin.arrival_ns, bin.sent_ns),
        (stamp().seq, stamp().stream, -5_000_000, 99, stamp().sent_ns)
    );
    assert_eq!(bin.counts(), [0.0, 2.0, 0.0, 1.0]);
    assert!(bin.segment_start && !bin.is_valid(2) && bin.invalid_channels() == 1);
}

#[test]
fn an_estimate_has_the_golden_bytes() {
    let header = wire::estimate_header(&estimate());
    let (mut rates, mut velocity) = (Vec::new(), Vec::new());
    wire::put_f32(estimate().rates(), &mut rates);
    wire::put_f32(estimate().velocity(), &mut velocity);
    let frames: [&[u8]; 4] = [wire::TOPIC_ESTIMATE, &header, &rates, &velocity];
    check_golden("estimate", &frames);

    let read = wire::read_estimate(&frames).unwrap();
    assert_eq!(wire::estimate_header(&read), header);
    assert_eq!((read.rates(), read.velocity()), (estimate().rates(), estimate().velocity()));
}

#[test]
fn descriptions_have_the_golden_bytes() {
    let velocity = |name: &str| OutputDescription {
        name: name.to_owned(),
        unit: "m/s".to_owned(),
        offset_ns: -10_000_000,
    };
    let estimates = Description::Estimates {
        bundle: "ab".repeat(32),
        engine: "native avx2".to_owned(),
        bin_width_us: 20_000,
        unit_ids: vec![1012, 2003],
        velocity_dims: 2,
        velocity_offset_ns: -10_000_000,
        outputs: ["vx", "vy"].map(velocity).to_vec(),
    };
    let bins = Description::Bins { bin_width_us: 5_000, channel_ids: vec![7, -3] };
    for (name, stream, described) in
        [("description", 0, estimates), ("description-bins", 0x1112_1314_1516_1718, bins)]
    {
        let (header, json) = wire::description_frames(stream, &described);
        let frames: [&[u8]; 3] = [wire::TOPIC_DESCRIPTION, &header, &json];
        check_golden(name, &frames);
        assert_eq!(wire::read_description(&frames), Ok((stream, Some(described))));
    }
}

#[test]
fn a_description_of_an_unknown_kind_informs_nobody_and_breaks_nothing() {
    let (header, _) =
        wire::description_frames(9, &Description::Bins { bin_width_us: 1, channel_ids: Vec::new() });
    let frames: [&[u8]; 3] = [wire::TOPIC_DESCRIPTION, &header, b"{\"new\":{}}"];
    assert_eq!(wire::read_description(&frames), Ok((9, None)));
    let found = |json: &str| {
        let frames = [wire::TOPIC_DESCRIPTION, &header, json.as_bytes()];
        wire::read_description(&frames).map_err(|error| error.to_string())
    };
    assert_eq!(found("no JSON"), Ok((9, None)));
    let ids = "expected channel-ids of the description to be a list of integers, found ";
    let width = "expected bin-width-us of the description to be an integer, found ";
    for (json, sentence) in [
        (
            r#"{"bins": {"bin-width-us": 20000, "channel-ids": ["1", "2"]}}"#,
            format!("{ids}strings in the list"),
        ),
        (
            r#"{"bins": {"bin-width-us": 20000, "channel-ids": [1, 2.5]}}"#,
            format!("{ids}a number that is no integer in the list"),
        ),
        (
            r#"{"bins": {"bin-width-us": 20000, "channel-ids": [1, null]}}"#,
            format!("{ids}other values in the list"),
        ),
        (r#"{"bins": {"bin-width-us": 20000, "channel-ids": "1,2"}}"#, format!("{ids}a string")),
        (r#"{"bins": {"bin-width-us": 20000}}"#, format!("{ids}none")),
        (r#"{"bins": {"channel-ids": [1]}}"#, format!("{width}none")),
        (r#"{"bins": {"bin-width-us": 20.5, "channel-ids": [1]}}"#, format!("{width}a number that is none")),
    ] {
        assert_eq!(found(json), Err(sentence), "{json}");
    }
}

#[test]
fn wire_md_has_the_version_a_row_for_each_and_every_reason() {
    let page = include_str!("../WIRE.md");
    assert!(page.starts_with(&format!("# The bytes between programs, version {}\n", wire::VERSION)));
    let (_, table) = page.split_once("\n## Versions\n").unwrap();
    for version in 1..=wire::VERSION {
        assert!(table.contains(&format!("\n| {version} | ")), "no row for version {version}");
    }
    let (_, reasons) = page.split_once("\nReasons, from bit 0: ").unwrap();
    let named: Vec<&str> = reasons.split_once('.').unwrap().0.split(',').map(str::trim).collect();
    assert!(Reasons(u32::MAX).names().eq(named), "the names of the reasons, in the order of their bits");
    let in_headers = page.matches(&format!("| 4-5 | `u2` | version | {} |", wire::VERSION)).count();
    assert_eq!(in_headers, 2, "the version in both headers");
}

#[test]
fn what_is_not_understood_is_refused_with_expected_and_found() {
    let good = wire::bin_header(&stamp(), 4);
    let mut counts = Vec::new();
    wire::put_f32(&[1.0; 4], &mut counts);
    let changed = |at: usize, value: u8| {
        let mut header = good;
        header[at] = value;
        header
    };
    let cases: [(&[&[u8]], &str); 12] = [
        (
            &[b"ndt.bins", &good, &counts],
            "expected the topic ndt.bin of a bin or ndt.description of a description, found \"ndt.bins\"",
        ),
        (&[wire::TOPIC_BIN, &good], "expected 3 frames, found 2"),
        (&[wire::TOPIC_BIN, &good, &counts, b""], "expected 3 frames, found 4"),
        (&[wire::TOPIC_BIN, b"NDT", &counts], "expected a header of 8 bytes, found 3"),
        (&[wire::TOPIC_BIN, &good[..55], &counts], "expected a bin header of 56 bytes, found 55"),
        (
            &[wire::TOPIC_BIN, &changed(0, b'X'), &counts],
            "expected magic \"NDTW\", found bytes [58, 44, 54, 57]",
        ),
        (
            &[wire::TOPIC_BIN, &changed(4, 2), &counts],
            "expected wire version 3, found 2, which ndtd 0.1 used before estimates carried their age; \
             update the program that sent it (WIRE.md)",
        ),
        (
            &[wire::TOPIC_BIN, &changed(4, 4), &counts],
            "expected wire version 3, found 4, which a newer program has sent; update this one",
        ),
        (&[wire::TOPIC_BIN, &changed(6, 2), &counts], "expected message kind 1, found 2"),
        (
            &[wire::TOPIC_BIN, &changed(15, 0x7f), &counts],
            "expected a seq of at most 4611686018427387904, found 9151880708569302792",
        ),
        (&[wire::TOPIC_BIN, &good, &counts[..15]], "expected a counts frame of 16 bytes, found 15"),
        (&[wire::TOPIC_BIN, &changed(46, 1), &counts], "expected channels of at most 4096, found 65540"),
    ];
    let mut bin = Bin::empty();
    bin.seq = 77;
    for (frames, sentence) in cases {
        let error = wire::read_bin(frames, 4, CountRange::new(50, 20.0), 1, &mut bin).unwrap_err();
        assert_eq!(error.to_string(), sentence);
        assert_eq!(bin.seq, 77, "a refused frame changes nothing");
    }
    let frames: [&[u8]; 3] = [wire::TOPIC_BIN, &good, &counts];
    let error = wire::read_bin(&frames, 5, CountRange::new(50, 20.0), 1, &mut bin).unwrap_err();
    assert_eq!(error, WireError::Channels { expected: 5, found: 4 });
    let header = wire::estimate_header(&estimate());
    let mut unknown = header;
    unknown[102] = 9;
    let frames: [&[u8]; 4] = [wire::TOPIC_ESTIMATE, &unknown, &[0; 12], &[0; 8]];
    assert_eq!(
        wire::read_estimate(&frames).unwrap_err().to_string(),
        "expected a quality of at most 5, found 9"
    );
}

#[test]
fn outputs_beside_the_velocity_are_passed_over_and_too_many_are_refused() {
    let with = |dims: u8, outputs: u8| {
        let mut header = wire::estimate_header(&estimate());
        (header[92], header[94]) = (dims, outputs);
        let values = vec![0.5f32; outputs.into()];
        let mut frame = Vec::new();
        wire::put_f32(&values, &mut frame);
        wire::read_estimate(&[wire::TOPIC_ESTIMATE, &header, &[0; 12], &frame])
    };
    let read = with(2, 32).unwrap();
    assert_eq!((read.velocity(), read.rates().len()), (&[0.5, 0.5][..], 3));
    assert_eq!(with(0, 5).unwrap().velocity(), [0f32; 0]);
    let refused = [
        ((2, 33), "expected outputs of at most 32, found 33"),
        ((3, 2), "expected velocity components of at most 2, found 3"),
        ((4, 32), "expected velocity components of at most 3, found 4"),
    ];
    for ((dims, outputs), sentence) in refused {
        assert_eq!(with(dims, outputs).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn a_reason_that_is_not_known_yet_is_kept_and_has_no_name() {
    let mut sent = estimate();
    sent.reasons = Reasons(1 << 31).with(Reasons::DEGRADED);
    let header = wire::estimate_header(&sent);
    let read = wire::read_estimate(&[wire::TOPIC_ESTIMATE, &header, &[0; 12], &[0; 8]]).unwrap();
    assert_eq!((read.reasons, read.quality), (sent.reasons, sent.quality));
    assert!(read.reasons.names().eq(["degraded"]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_but_never_panic(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6),
        start in any::<bool>(),
    ) {
        let mut frames = frames;
        if start && frames.len() > 1 {
            let header = wire::bin_header(&stamp(), 4);
            let length = header.len().min(frames[1].len());
            frames[1][..length].copy_from_slice(&header[..length]);
        }
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let mut bin = Bin::empty();
        let read = wire::read_bin(&frames, 4, CountRange::new(50, 20.0), 0, &mut bin).is_ok();
        prop_assert!(!read || bin.channels() == 4);
        let _ = wire::read_estimate(&frames).is_ok() || wire::read_description(&frames).is_ok();
    }
}

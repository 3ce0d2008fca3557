use super::*;
use crate::listen::Tally;
use crate::play::{Channels, Plan};
use crate::simulate::{Recipe, simulate};

/// The picture and the summary of a decoder whose velocity is 0.9 times the true one. Its estimates take the `qualities` in
/// turn.
fn drawn(session: &Session, dims: usize, qualities: &[Quality]) -> (String, Summary) {
    let plan = Plan::new(session, Some("val"), 20.0, Channels::HeldIn).unwrap();
    let truth = session.series(TRUTH_SERIES);
    let (mut picture, mut tally) = (Picture::new(session), Tally::new(truth.cloned()));
    for (seq, quality) in (0..plan.bins()).zip(qualities.iter().cycle()) {
        let (stamp, _) = plan.bin(seq);
        let mut estimate = Estimate::zero(1, dims);
        (estimate.seq, estimate.source_ns, estimate.velocity_for_ns) =
            (stamp.seq, stamp.source_ns, stamp.source_ns);
        estimate.quality = *quality;
        let known = truth.and_then(|truth| truth.at(stamp.source_ns as f64 * 1e-9, 0.1));
        let known = known.into_iter().flatten();
        estimate.velocity_mut().iter_mut().zip(known).for_each(|(to, from)| *to = 0.9 * from as f32);
        picture.push(&estimate);
        tally.push(&estimate, 0);
    }
    let summary = tally.summary();
    (picture.svg(&summary), summary)
}

fn session() -> Session {
    simulate(&Recipe { trials: 40, units: 4, heldout: 0, seed: 3 })
}

/// Checks that tags are balanced and nested, that attributes are quoted, and that text holds no markup.
fn assert_is_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a > outside of a tag: {}", &rest[..start]);
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "a coordinate is not finite");
}

#[test]
fn a_picture_is_well_formed_and_shows_every_quality_that_occurred() {
    for qualities in [&Quality::ALL[..], &[Quality::Good], &[Quality::Good, Quality::Stale]] {
        let (svg, summary) = drawn(&session(), 2, qualities);
        assert_is_well_formed(&svg);
        assert_eq!(summary.quality.len(), qualities.len());
        for quality in Quality::ALL {
            let count = summary.quality.get(quality.name()).copied();
            let key = format!(">{} {}<", quality.name(), thousands(count.unwrap_or(0)));
            assert_eq!(svg.contains(&key), count.is_some(), "{key}");
            // The colour occurs at least once in the strip and once in the key.
            let fill = format!("fill=\"{}\"/>", palette::of_quality(quality));
            let rectangles =
                svg.lines().filter(|line| line.starts_with("<rect") && line.ends_with(&fill)).count();
            assert_eq!(rectangles >= 2, count.is_some(), "{} {rectangles}", quality.name());
        }
        assert!(
            svg.contains("True hand paths of 8 trials, by direction") && svg.len() < 200_000,
            "{} bytes",
            svg.len()
        );
    }
}

#[test]
fn a_recording_may_lack_what_a_picture_shows() {
    let mut session = session();
    session.identifier = "a & b <c>\u{7}".to_owned();
    let (svg, _) = drawn(&session, 1, &[Quality::Good]);
    assert_is_well_formed(&svg);
    assert!(svg.contains("a &amp; b &lt;c&gt;  ") && !svg.contains("True hand paths"), "{svg}");
    session.behavior.clear();
    assert_is_well_formed(&drawn(&session, 2, &[Quality::Good]).0);
    assert_is_well_formed(&drawn(&session, 0, &[Quality::Fault]).0);
    let empty = Picture::new(&session).svg(&Tally::new(None).summary());
    assert_is_well_formed(&empty);
}

#[test]
fn memory_is_bounded_however_long_a_session_is() {
    let session = simulate(&Recipe { trials: 1000, units: 1, heldout: 0, seed: 3 });
    let (svg, summary) = drawn(&session, 2, &Quality::ALL);
    assert!(summary.estimates > 15_000 && svg.len() < 400_000, "{} {}", summary.estimates, svg.len());
    assert!(svg.contains("True hand paths of 120 trials, by direction"));
}

#[test]
fn counts_are_grouped_by_thousands() {
    for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
        assert_eq!(thousands(count), text);
    }
}

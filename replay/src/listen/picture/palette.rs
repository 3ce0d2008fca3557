//! Colours that colour-blind people can tell apart (Okabe and Ito 2008).

use ndt_protocol::Quality;

/// Colour of text.
pub const INK: &str = "#222222";
/// Colour of secondary text.
pub const GREY: &str = "#777777";
/// Colour of zero lines and frames.
pub const RULE: &str = "#dddddd";
/// Colour of the true movement.
pub const TRUE: &str = "#b5b5b5";
/// Colour of the decoded movement.
pub const DECODED: &str = "#0072b2";

/// Colours of the eight directions of movement, counter-clockwise from the right.
pub const DIRECTIONS: [&str; 8] =
    ["#d55e00", "#e69f00", "#999999", "#009e73", "#56b4e9", "#0072b2", "#000000", "#cc79a7"];

/// Colour of a quality in the strip.
pub fn of_quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "#009e73",
        Quality::Warmup => "#56b4e9",
        Quality::Gap => "#e69f00",
        Quality::Late => "#cc79a7",
        Quality::Stale => "#999999",
        Quality::Fault => "#d55e00",
    }
}

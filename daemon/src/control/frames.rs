//! What the live page is sent 30 times a second: the estimates since the last frame, as JSON in an event of `text/event-stream`.

use ndt_protocol::{Estimate, Quality, Reasons};
use serde::Serialize;

/// Most estimates of one frame: a page cannot show more. The oldest are left out.
const ESTIMATES_MAX: usize = 64;

/// Most rows of the map of rates. More units are shown as the means of neighbours.
const ROWS_MAX: usize = 256;

/// Number of neighbouring units that share a row of the map, of so many.
pub fn units_per_row(units: usize) -> usize {
    units.div_ceil(ROWS_MAX).max(1)
}

/// Rates are sent as one character each, in so many steps of the logarithm from 0 to [`RATE_MAX_HZ`].
const LEVELS: f32 = 90.0;

/// Rate of the highest level, spikes/s.
const RATE_MAX_HZ: f32 = 500.0;

/// The estimates since the last frame.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pending {
    /// Number of the newest bin.
    seq: u64,
    /// When each estimate was published, ms by the monotonic clock.
    at_ms: Vec<f64>,
    /// Number of the quality of each.
    quality: Vec<u8>,
    /// Bits of the reasons of each.
    reasons: Vec<u32>,
    /// From the bin's arrival to the publication, us; `None` for a bin that never came.
    latency_us: Vec<Option<u64>>,
    /// The published behaviour of each.
    outputs: Vec<Vec<f32>>,
    /// Mean rate of each row over the frame, a character each.
    rates: String,
    /// Sum of the rates of each unit, and number of estimates in it.
    #[serde(skip)]
    sums: Vec<f32>,
    #[serde(skip)]
    summed: u32,
}

impl Pending {
    /// Adds an estimate.
    pub fn add(&mut self, estimate: &Estimate) {
        if self.at_ms.len() == ESTIMATES_MAX {
            self.at_ms.remove(0);
            self.quality.remove(0);
            self.reasons.remove(0);
            self.latency_us.remove(0);
            self.outputs.remove(0);
        }
        let has_come = !estimate.reasons.contains(Reasons::MISSING_BIN) && estimate.quality != Quality::Stale;
        self.seq = estimate.seq;
        self.at_ms.push((estimate.published_ns / 1_000) as f64 * 1e-3);
        self.quality.push(estimate.quality as u8);
        self.reasons.push(estimate.reasons.0);
        let latency_us = estimate.published_ns.saturating_sub(estimate.arrival_ns) / 1_000;
        self.latency_us.push(has_come.then_some(latency_us));
        self.outputs.push(estimate.outputs().to_vec());
        let rates = estimate.rates();
        if self.sums.len() != rates.len() {
            (self.sums, self.summed) = (vec![0.0; rates.len()], 0);
        }
        self.summed += 1;
        self.sums.iter_mut().zip(rates).for_each(|(sum, rate)| *sum += rate);
    }

    /// Returns an event with what was added, and begins anew; `None` where nothing was.
    pub fn frame(&mut self) -> Option<String> {
        if self.at_ms.is_empty() {
            return None;
        }
        let mut frame = std::mem::take(self);
        let (bins, units) = (frame.summed as f32, frame.sums.len());
        let rows = frame.sums.chunks(units_per_row(units));
        frame.rates = rows.map(|row| level(row.iter().sum::<f32>() / (row.len() as f32 * bins))).collect();
        event("frame", &frame)
    }
}

/// The character of a rate, spikes/s: one that JSON needs no escape for.
fn level(rate: f32) -> char {
    let share = rate.max(0.0).ln_1p() / RATE_MAX_HZ.ln_1p();
    let level = (share * LEVELS).round().clamp(0.0, LEVELS) as u8;
    // From '#' to '[', and from ']' on.
    char::from(if level < 57 { b'#' + level } else { b']' + (level - 57) })
}

/// Writes an event of `text/event-stream`.
pub fn event(name: &str, data: &impl Serialize) -> Option<String> {
    let data = serde_json::to_string(data).ok()?;
    Some(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_the_estimates_since_the_last_one_and_no_more_than_a_page_can_show() {
        let mut pending = Pending::default();
        assert_eq!(pending.frame(), None);
        let mut estimate = Estimate::zero(600, 2);
        estimate.rates_mut().fill(500.0);
        for seq in 0..100 {
            estimate.seq = seq;
            pending.add(&estimate);
        }
        let event = pending.frame().unwrap();
        let data = event.strip_prefix("event: frame\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        let frame: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((frame["seq"].as_u64(), frame["quality"].as_array().unwrap().len()), (Some(99), 64));
        assert_eq!(frame["rates"].as_str().unwrap().len(), 200, "three units share a row");
        assert_eq!(pending.frame(), None);
    }

    #[test]
    fn every_level_is_a_character_of_its_own_that_needs_no_escape() {
        let rate = |level: u8| (f32::from(level) / LEVELS * RATE_MAX_HZ.ln_1p()).exp_m1();
        let levels: String = (0..=90).map(|number| level(rate(number))).collect();
        assert_eq!(serde_json::to_string(&levels).unwrap().len(), 93);
        assert!(levels.is_ascii() && levels.as_bytes().is_sorted_by(|one, next| one < next), "{levels}");
        assert_eq!((level(0.0), level(1e9), level(f32::NAN)), ('#', '~', '#'));
    }
}

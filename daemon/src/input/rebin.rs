//! Sums narrow bins of a rig (1 or 5 ms counts) to bins of the model.
//!
//! Model bins are counted from the start of their segment or stream, so that none spans the start of a segment. A model bin
//! that lacks a part is left out: its sum over less time would look like a lower rate, and the decoder handles missing bins.

use super::runs::Runs;
use ndt_protocol::bin::count::RefusedChannels;
use ndt_protocol::binner::{BinError, Rebinner};
use ndt_protocol::wire::WireError;
use ndt_protocol::{Bin, CountRange};

/// Makes model bins from the bins of a stream. Owned by the source thread.
pub struct Rebin {
    model_us: u32,
    channels: usize,
    range: CountRange,
    /// State for narrow bins. It is replaced, which allocates, when the source's bin width changes; `None` while the source sends
    /// bins of the model's width.
    narrow: Option<Narrow>,
}

/// State for bins that are narrower than the model's.
struct Narrow {
    width_us: u32,
    rebinner: Rebinner,
    /// Counts of the present narrow bin; NaN for a channel without a count.
    counts: Vec<f32>,
    /// Channels of the open model bin with a value that no spike count can be.
    implausible: RefusedChannels,
    /// Channels of the open model bin that had more spikes in a part than the bundle accepts.
    too_high: RefusedChannels,
    /// Recognises a source that begins again under its old stream id in the middle of a model bin.
    runs: Runs,
    place: Option<Place>,
}

/// Position of the narrow bins in their stream.
#[derive(Clone, Copy)]
struct Place {
    stream: u64,
    /// Number of the narrow bin that model bins are counted from.
    from: u64,
    /// Number of the model bin that begins there.
    model_from: u64,
    /// Expected number of the next narrow bin.
    next: u64,
    /// Whether the open model bin begins a segment.
    segment_start: bool,
    /// Whether the open model bin has all of its parts so far.
    complete: bool,
}

impl Rebin {
    /// Passes bins of `model_us` unchanged, and sums narrower ones to that width.
    pub fn new(model_us: u32, channels: usize, range: CountRange) -> Rebin {
        Rebin { model_us, channels, range, narrow: None }
    }

    /// Takes in a bin of the stream. Returns whether it completes a model bin, which `bin` then holds. Runs on the source thread,
    /// once for each bin of the source. Allocates only when the width changes.
    ///
    /// # Errors
    /// [`WireError::BinWidth`] when the width is no whole part of the model's; `bin` is then as it was.
    pub fn push(&mut self, bin: &mut Bin, width_us: u32) -> Result<bool, WireError> {
        if width_us == self.model_us {
            self.narrow = None;
            return Ok(true);
        }
        if self.narrow.as_ref().is_none_or(|narrow| narrow.width_us != width_us) {
            let narrow = Narrow::new(width_us, self.model_us, self.channels);
            let refused = |_| WireError::BinWidth { expected: self.model_us, found: width_us };
            self.narrow = Some(narrow.map_err(refused)?);
        }
        let Some(narrow) = &mut self.narrow else { return Ok(false) };
        Ok(narrow.push(bin, self.range))
    }
}

impl Narrow {
    fn new(width_us: u32, model_us: u32, channels: usize) -> Result<Narrow, BinError> {
        let ms = |us: u32| f64::from(us) * 1e-3;
        let rebinner = Rebinner::new(ms(width_us), ms(model_us), channels)?;
        Ok(Narrow {
            width_us,
            rebinner,
            counts: vec![0.0; channels],
            implausible: RefusedChannels::NONE,
            too_high: RefusedChannels::NONE,
            runs: Runs::default(),
            place: None,
        })
    }

    fn push(&mut self, bin: &mut Bin, range: CountRange) -> bool {
        self.runs.assign(bin);
        let parts = self.rebinner.parts() as u64;
        let mut place = match self.place {
            Some(place) if place.stream == bin.stream && bin.seq < place.next => return false,
            Some(place) if place.stream == bin.stream && !bin.segment_start => place,
            Some(place) if place.stream == bin.stream => Place {
                from: bin.seq,
                // The open model bin ends without being made; lost bins keep the numbers that they would have had.
                model_from: place.model_from + (bin.seq - place.from).div_ceil(parts),
                next: bin.seq,
                segment_start: true,
                ..place
            },
            // The first bin that is received need not be the first of its stream: model bins are counted from number 0, unless a
            // segment starts here.
            _ => Place {
                stream: bin.stream,
                from: if bin.segment_start { bin.seq } else { bin.seq - bin.seq % parts },
                model_from: if bin.segment_start { bin.seq.div_ceil(parts) } else { bin.seq / parts },
                next: bin.seq,
                segment_start: bin.segment_start,
                complete: false,
            },
        };
        let part = (bin.seq - place.from) % parts;
        let begins = part == 0;
        if begins {
            (self.implausible, self.too_high) = (RefusedChannels::NONE, RefusedChannels::NONE);
        }
        self.implausible.merge(&bin.implausible);
        self.too_high.merge(&bin.too_high);
        place.complete = begins || (place.complete && bin.seq == place.next);
        place.next = bin.seq + 1;
        self.counts.iter_mut().zip(bin.counts_or_nan()).for_each(|(count, value)| *count = value);
        // The number of channels was checked when the message was read, so that the rebinner accepts it.
        let sums =
            if place.complete { self.rebinner.push(&self.counts, begins).ok().flatten() } else { None };
        let is_made = sums.is_some();
        if let Some(sums) = sums {
            bin.fill(sums.iter().copied(), range);
            bin.implausible.merge(&self.implausible);
            bin.too_high.merge(&self.too_high);
            bin.seq = place.model_from + (place.next - 1 - place.from) / parts;
            bin.segment_start = place.segment_start;
            place.segment_start = false;
        }
        self.place = Some(place);
        is_made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(seq: u64, counts: [f32; 2], segment_start: bool) -> Bin {
        let mut bin = Bin::empty();
        bin.fill(counts.into_iter(), CountRange::new(50, 20.0));
        (bin.seq, bin.stream, bin.segment_start) = (seq, 3, segment_start);
        bin.source_ns = (seq as i64 + 1) * 5_000_000;
        bin
    }

    /// Pushes 5 ms bins and gives the 20 ms bins: number, counts, source time in ms, segment start.
    fn made(bins: impl IntoIterator<Item = Bin>) -> Vec<(u64, Vec<f32>, i64, bool)> {
        let mut rebin = Rebin::new(20_000, 2, CountRange::new(50, 20.0));
        let made = bins.into_iter().filter_map(|mut bin| {
            let complete = rebin.push(&mut bin, 5_000).unwrap();
            let counts: Vec<f32> = bin.counts_or_nan().collect();
            complete.then_some((bin.seq, counts, bin.source_ns / 1_000_000, bin.segment_start))
        });
        made.collect()
    }

    #[test]
    fn parts_are_summed_and_numbered_as_the_models_bins() {
        let bins = (0..9).map(|seq| bin(seq, [1.0, seq as f32], seq == 0));
        assert_eq!(made(bins), [(0, vec![4.0, 6.0], 20, true), (1, vec![4.0, 22.0], 40, false)]);
        // Joined late: the numbers are those that the whole stream would have.
        let bins = (40..48).map(|seq| bin(seq, [1.0, 0.0], false));
        assert_eq!(made(bins).iter().map(|made| made.0).collect::<Vec<_>>(), [10, 11]);
    }

    #[test]
    fn a_model_bin_that_lacks_a_part_is_missing_and_the_next_keeps_its_number() {
        let bins = (0..16).filter(|seq| *seq != 5).map(|seq| bin(seq, [1.0, 0.0], false));
        assert_eq!(made(bins).iter().map(|made| made.0).collect::<Vec<_>>(), [0, 2, 3]);
        let bins = (0..16).filter(|seq| !(3..9).contains(seq)).map(|seq| bin(seq, [1.0, 0.0], false));
        assert_eq!(made(bins).iter().map(|made| made.0).collect::<Vec<_>>(), [3]);
        let bins = (0..8).flat_map(|seq| [bin(seq, [1.0, 0.0], false), bin(seq, [9.0, 9.0], false)]);
        assert_eq!(made(bins).iter().map(|made| made.1[0]).collect::<Vec<_>>(), [4.0, 4.0], "duplicates");
    }

    #[test]
    fn a_segment_start_begins_a_model_bin_and_gives_up_what_was_begun() {
        let bins = (0..14).map(|seq| bin(seq, [1.0, 0.0], seq == 6));
        let found: Vec<(u64, bool)> = made(bins).iter().map(|made| (made.0, made.3)).collect();
        assert_eq!(found, [(0, false), (2, true), (3, false)]);
    }

    #[test]
    fn numbers_are_those_of_the_whole_stream_whatever_is_lost_doubled_or_begun_again() {
        let numbers = |bins: Vec<Bin>| made(bins).iter().map(|made| made.0).collect::<Vec<_>>();
        let one = |seq, starts| bin(seq, [1.0, 0.0], starts);
        // 4 to 11 are lost before a segment's start.
        assert_eq!(numbers((0..4).chain(12..16).map(|seq| one(seq, seq == 12)).collect()), [0, 3]);
        // A segment's start comes twice, and once more much later.
        let doubled = [0, 1, 2, 3, 4, 4, 5, 6, 7, 4, 8, 9, 10, 11];
        assert_eq!(numbers(doubled.map(|seq| one(seq, seq == 4)).to_vec()), [0, 1, 2]);
        // The source begins again under its old id: after two bins it is believed.
        let again: Vec<Bin> = (400..408).chain(0..12).map(|seq| one(seq, false)).collect();
        assert_eq!(numbers(again), [100, 101, 1, 2]);
    }

    #[test]
    fn a_channel_without_a_count_in_any_part_has_none_in_the_sum() {
        let bins = (0..4).map(|seq| bin(seq, [1.0, if seq == 2 { f32::NAN } else { 1.0 }], false));
        let made = made(bins);
        assert!(made[0].1[0] == 4.0 && made[0].1[1].is_nan());
    }

    #[test]
    fn a_value_that_no_count_can_be_in_any_part_is_noted_in_the_sum_and_in_no_other() {
        let mut rebin = Rebin::new(20_000, 2, CountRange::new(50, 20.0));
        let mut noted = Vec::new();
        for seq in 0..12 {
            let mut bin = bin(seq, [1.0, if seq == 5 { 4.6e-41 } else { 1.0 }], false);
            if rebin.push(&mut bin, 5_000) == Ok(true) {
                noted.push(bin.implausible.example());
            }
        }
        assert_eq!(noted, [None, Some((1, 4.6e-41)), None]);
        // More than the bundle accepts, in a part or in the sum alone.
        for (most, seen) in [(60.0, Some((0, 60.0))), (20.0, Some((0, 80.0)))] {
            let (mut rebin, mut sum) = (Rebin::new(20_000, 2, CountRange::new(50, 20.0)), Bin::empty());
            for seq in 0..4 {
                sum = bin(seq, [most, 1.0], false);
                assert_eq!(rebin.push(&mut sum, 5_000), Ok(seq == 3));
            }
            assert_eq!((sum.too_high.example(), sum.lacks_a_value()), (seen, false), "{most}");
        }
    }

    #[test]
    fn the_models_own_width_passes_and_one_that_does_not_divide_is_refused() {
        let mut rebin = Rebin::new(20_000, 2, CountRange::new(50, 20.0));
        let mut wide = bin(7, [2.0, 0.0], false);
        assert_eq!(rebin.push(&mut wide, 20_000), Ok(true));
        assert_eq!((wide.seq, wide.counts()[0]), (7, 2.0));
        for found in [3_000, 40_000, 0] {
            let error = rebin.push(&mut wide, found).unwrap_err();
            let sentence = format!("expected bins of 20000 us or a whole part of it, found {found} us");
            assert_eq!(error.to_string(), sentence);
        }
    }
}

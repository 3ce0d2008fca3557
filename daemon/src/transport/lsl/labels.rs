//! Maps the channels of a stream to the channels of the model, by their labels. Pure.

use ndt_protocol::lsl::LABEL_SEGMENT_START;
use std::collections::BTreeMap;

/// Highest number of labels in a message.
const NAMED_MAX: usize = 5;

/// What `[lsl]` allows a stream to lack or to have beside the bundle's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// Channels that the bundle does not know.
    pub unknown: bool,
    /// No labels, because the channels are known to be the bundle's in the bundle's order.
    pub unlabelled: bool,
}

/// Positions of the model's channels in a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Position of each channel of the bundle; `None` if the stream lacks the channel.
    places: Vec<Option<usize>>,
    /// Position of the channel that marks the start of a segment.
    segment_start: Option<usize>,
    /// Labels of the stream that are left out, in the order of the stream.
    unknown: Vec<String>,
    /// Channel ids of the bundle that the stream lacks.
    missing: Vec<i64>,
    /// Whether the channels have labels.
    is_labelled: bool,
    /// Whether it is known which channel is which: by the labels, or because the configuration says so.
    is_described: bool,
}

/// Why the channels of a stream do not fit a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A stream without labels has a different number of channels than the bundle.
    #[error("expected {expected} channels, found {found} without labels")]
    Channels {
        /// Number of channels of the bundle.
        expected: usize,
        /// Number of channels of the stream.
        found: usize,
    },
    /// Only some channels have a label.
    #[error("expected a label for each of {channels} channels, found {found}")]
    Labels {
        /// Number of channels of the stream.
        channels: usize,
        /// Number of labels that are not empty.
        found: usize,
    },
    /// Two channels have the same label.
    #[error("expected every label once, found \"{0}\" twice")]
    Twice(String),
    /// Some labels are no channel ids of the bundle.
    #[error(
        "expected labels that are channel ids of the bundle, found {0}; allow-unknown-channels in [lsl] leaves them out"
    )]
    Unknown(String),
    /// No label is a channel id of the bundle.
    #[error("expected labels that are channel ids of the bundle, such as \"{expected}\", found {found}")]
    NoneKnown {
        /// First channel id of the bundle.
        expected: i64,
        /// Some labels of the stream.
        found: String,
    },
}

impl Layout {
    /// Maps a stream of `channels` channels with `labels` to the channel `ids` of a bundle. A label is a channel id in decimal.
    /// A stream without labels must have as many channels as the bundle; whether they are in its order, it does not say.
    ///
    /// # Errors
    /// [`LayoutError`] when the channels do not fit the bundle.
    pub fn new(
        labels: &[String],
        channels: usize,
        ids: &[i64],
        allowed: Allowed,
    ) -> Result<Layout, LayoutError> {
        let labelled = labels.iter().filter(|label| !label.trim().is_empty()).count();
        if labelled == 0 {
            if channels != ids.len() {
                return Err(LayoutError::Channels { expected: ids.len(), found: channels });
            }
            return Ok(Layout {
                is_labelled: false,
                is_described: allowed.unlabelled,
                ..Layout::in_order(channels)
            });
        }
        if labelled != channels || labels.len() != channels {
            return Err(LayoutError::Labels { channels, found: labelled });
        }
        let mut by_label = BTreeMap::new();
        for (place, label) in labels.iter().enumerate() {
            if by_label.insert(label.trim(), place).is_some() {
                return Err(LayoutError::Twice(label.trim().to_owned()));
            }
        }
        let segment_start = by_label.remove(LABEL_SEGMENT_START);
        let places: Vec<Option<usize>> =
            ids.iter().map(|id| by_label.remove(id.to_string().as_str())).collect();
        // Found in the labels and not in the map, to keep the order of the stream.
        let unknown = labels.iter().map(|label| label.trim()).filter(|label| by_label.contains_key(label));
        let unknown: Vec<String> = unknown.map(str::to_owned).collect();
        let lacks = ids.iter().zip(&places).filter(|(_, place)| place.is_none());
        let missing: Vec<i64> = lacks.map(|(id, _)| *id).collect();
        if let (true, Some(expected)) = (missing.len() == ids.len(), ids.first()) {
            return Err(LayoutError::NoneKnown { expected: *expected, found: some(&unknown) });
        }
        if !unknown.is_empty() && !allowed.unknown {
            return Err(LayoutError::Unknown(some(&unknown)));
        }
        Ok(Layout { places, segment_start, unknown, missing, is_labelled: true, is_described: true })
    }

    /// The layout of samples that hold the bundle's channels in the bundle's order.
    pub fn in_order(channels: usize) -> Layout {
        Layout {
            places: (0..channels).map(Some).collect(),
            segment_start: None,
            unknown: Vec::new(),
            missing: Vec::new(),
            is_labelled: true,
            is_described: true,
        }
    }

    /// Whether it is known which channel of the stream is which. Runs on the source thread, once a sample.
    pub fn is_described(&self) -> bool {
        self.is_described
    }

    /// The counts of a sample in the bundle's order. NaN for a channel that the stream lacks.
    ///
    /// Runs on the source thread, once a sample. Must not allocate.
    pub fn counts<'a>(&'a self, sample: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let count = |place: &Option<usize>| place.and_then(|place| sample.get(place)).copied();
        self.places.iter().map(move |place| count(place).unwrap_or(f32::NAN))
    }

    /// Whether a sample begins a stretch of continuous data.
    pub fn starts_segment(&self, sample: &[f32]) -> bool {
        self.segment_start.is_some_and(|place| sample.get(place).is_some_and(|value| *value != 0.0))
    }

    /// Returns the text to append to the log line about a stream: reordered, missing, ignored and unlabelled channels. Empty if
    /// there are none.
    pub fn remarks(&self) -> String {
        let mut remarks = String::new();
        if !self.is_labelled {
            remarks += match self.is_described {
                true => ", channels without labels taken in the bundle's order",
                false => {
                    ", channels without labels, so that all estimates are faults: label each with its channel id, or set \
                     allow-unlabelled-channels in [lsl] if they are in the bundle's order"
                }
            };
        }
        let moved = |(channel, place): (usize, &Option<usize>)| place.is_some_and(|place| place != channel);
        if self.places.iter().enumerate().any(moved) {
            remarks += ", channels put in the bundle's order by their labels";
        }
        if !self.missing.is_empty() {
            let ids: Vec<String> = self.missing.iter().map(i64::to_string).collect();
            remarks += &format!(", channels taken as silent because the stream lacks them: {}", some(&ids));
        }
        if !self.unknown.is_empty() {
            remarks += &format!(", channels left out: {}", some(&self.unknown));
        }
        remarks
    }
}

/// Lists the first names, and the number of the others.
fn some(names: &[String]) -> String {
    let named = names.iter().take(NAMED_MAX).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Allowed = Allowed { unknown: false, unlabelled: false };
    const UNKNOWN: Allowed = Allowed { unknown: true, ..NONE };

    fn labels(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    fn counts(layout: &Layout, sample: &[f32]) -> Vec<f32> {
        layout.counts(sample).map(|count| if count.is_nan() { -1.0 } else { count }).collect()
    }

    #[test]
    fn missing_channels_have_no_count_and_unknown_ones_are_refused_unless_allowed() {
        let found = labels(&["7", "x", "5"]);
        let refused = Layout::new(&found, 3, &[5, 6, 7], NONE).unwrap_err().to_string();
        assert_eq!(
            refused,
            "expected labels that are channel ids of the bundle, found \"x\"; allow-unknown-channels in [lsl] \
             leaves them out"
        );
        let layout = Layout::new(&found, 3, &[5, 6, 7], UNKNOWN).unwrap();
        assert_eq!(counts(&layout, &[1.0, 2.0, 3.0]), [3.0, -1.0, 1.0]);
        assert_eq!(
            layout.remarks(),
            ", channels put in the bundle's order by their labels, channels taken as silent because the stream lacks \
             them: \"6\", channels left out: \"x\""
        );
        let error = Layout::new(&labels(&["a", "b"]), 2, &[5, 6], UNKNOWN).unwrap_err().to_string();
        assert!(error.ends_with("such as \"5\", found \"a\", \"b\""), "{error}");
    }

    #[test]
    fn a_stream_without_labels_is_the_bundles_or_none() {
        for unlabelled in [false, true] {
            let allowed = Allowed { unlabelled, ..NONE };
            let layout = Layout::new(&labels(&["", ""]), 2, &[5, 6], allowed).unwrap();
            assert_eq!(counts(&layout, &[1.0, 2.0]), [1.0, 2.0]);
            assert_eq!(layout.is_described(), unlabelled);
            let remark =
                if unlabelled { "taken in the bundle's order" } else { "so that all estimates are faults" };
            assert!(layout.remarks().contains(remark), "{}", layout.remarks());
        }
        let labelled = Layout::new(&labels(&["5", "6"]), 2, &[5, 6], NONE).unwrap();
        assert_eq!((labelled.is_described(), labelled.remarks()), (true, String::new()));
        let error = Layout::new(&[], 3, &[5, 6], NONE).unwrap_err().to_string();
        assert_eq!(error, "expected 2 channels, found 3 without labels");
        let error = Layout::new(&labels(&["5", "", "6"]), 3, &[5, 6], NONE).unwrap_err().to_string();
        assert_eq!(error, "expected a label for each of 3 channels, found 2");
        let error = Layout::new(&labels(&["5", "5 "]), 2, &[5, 6], NONE).unwrap_err().to_string();
        assert_eq!(error, "expected every label once, found \"5\" twice");
    }

    #[test]
    fn a_channel_may_tell_where_segments_begin() {
        let layout = Layout::new(&labels(&["6", LABEL_SEGMENT_START, "5"]), 3, &[5, 6], NONE).unwrap();
        assert_eq!(counts(&layout, &[1.0, 1.0, 2.0]), [2.0, 1.0]);
        assert!(layout.starts_segment(&[1.0, 1.0, 2.0]) && !layout.starts_segment(&[1.0, 0.0, 2.0]));
    }

    proptest! {
        #[test]
        fn any_order_of_labels_gives_the_same_counts(order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle()) {
            let ids: Vec<i64> = (0..20).map(|channel| 100 + 3 * channel).collect();
            let shuffled: Vec<String> = order.iter().map(|&channel| ids[channel].to_string()).collect();
            let sample: Vec<f32> = order.iter().map(|&channel| channel as f32).collect();
            let layout = Layout::new(&shuffled, 20, &ids, NONE).unwrap();
            prop_assert!(layout.counts(&sample).eq((0..20).map(|channel| channel as f32)));
        }
    }
}

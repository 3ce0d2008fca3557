//! Copies of what passes through the pipeline, for the monitor: each bin and each published estimate, in a bounded queue of its own.
//!
//! **A tap costs the real-time threads one copy and nothing else.** The monitor looks into the queues at intervals and never sleeps on
//! them, so that a push wakes nobody. A queue that is full drops its oldest item and counts it.

use crate::input::{Received, Source};
use crate::output::{DescriptionFrames, Publisher};
use crate::queue::{Queue, Receiver};
use ndt_protocol::{Bin, Estimate};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Places of each queue. The monitor looks 30 times a second, in which 33 bins of 1 ms come; both queues together take four megabytes
/// of memory.
const PLACES: usize = 128;

/// The ends that the monitor reads.
pub struct Taps {
    /// Bins as they were taken in, narrow ones already summed.
    pub bins: Receiver<Bin>,
    /// Estimates as they were published.
    pub estimates: Receiver<Estimate>,
    dropped: Arc<Dropped>,
}

/// The ends that the real-time threads fill.
pub struct Filled {
    bins: Queue<Bin>,
    estimates: Queue<Estimate>,
    dropped: Arc<Dropped>,
}

/// Items that full queues have dropped.
#[derive(Debug, Default)]
struct Dropped {
    bins: AtomicU64,
    estimates: AtomicU64,
}

/// Makes both ends of the taps.
pub fn open() -> (Filled, Taps) {
    let (bins, tapped_bins) = Queue::with_places(&Bin::empty(), PLACES);
    let (estimates, tapped_estimates) = Queue::with_places(&Estimate::zero(0, 0), PLACES);
    let dropped = Arc::<Dropped>::default();
    let taps = Taps { bins: tapped_bins, estimates: tapped_estimates, dropped: dropped.clone() };
    (Filled { bins, estimates, dropped }, taps)
}

impl Taps {
    /// Number of bins and of estimates that were dropped, because the monitor did not look for too long.
    pub fn dropped(&self) -> (u64, u64) {
        (self.dropped.bins.load(Relaxed), self.dropped.estimates.load(Relaxed))
    }
}

/// Puts the taps, if there are any, at the two ends of a pipeline.
pub fn put_between<S: Source, P: Publisher>(
    filled: Option<Filled>,
    source: S,
    publisher: P,
) -> (TappedSource<S>, TappedPublisher<P>) {
    let (bins, estimates) = match filled {
        Some(Filled { bins, estimates, dropped }) => {
            (Some((bins, dropped.clone())), Some((estimates, dropped)))
        }
        None => (None, None),
    };
    (TappedSource { source, tap: bins, has_bin: false }, TappedPublisher { publisher, tap: estimates })
}

/// A source of whose bins copies are kept.
pub struct TappedSource<S> {
    source: S,
    tap: Option<(Queue<Bin>, Arc<Dropped>)>,
    /// Whether the last call has delivered a bin, of which no copy was made yet.
    has_bin: bool,
}

impl<S: Source> Source for TappedSource<S> {
    /// Copies the bin of the last call before it receives the next one: the decode thread has it by then, so that the copy delays
    /// nothing, and it has been taken in, so that it carries the stream and the clock's offset that its estimate has.
    fn receive(&mut self, bin: &mut Bin) -> Received {
        if let Some((queue, dropped)) = self.tap.as_ref().filter(|_| self.has_bin) {
            dropped.bins.fetch_add(u64::from(queue.push(bin.clone())), Relaxed);
        }
        let received = self.source.receive(bin);
        self.has_bin = received == Received::Bin;
        received
    }
}

/// A publisher of whose estimates copies are kept.
pub struct TappedPublisher<P> {
    publisher: P,
    tap: Option<(Queue<Estimate>, Arc<Dropped>)>,
}

impl<P: Publisher> Publisher for TappedPublisher<P> {
    /// Publishes first and copies then.
    fn publish(&mut self, estimate: &Estimate) {
        self.publisher.publish(estimate);
        if let Some((queue, dropped)) = &self.tap {
            dropped.estimates.fetch_add(u64::from(queue.push(estimate.clone())), Relaxed);
        }
    }

    fn describe(&mut self) {
        self.publisher.describe();
    }

    fn describe_as(&mut self, description: &Arc<DescriptionFrames>) {
        self.publisher.describe_as(description);
    }

    fn behind(&self) -> u64 {
        self.publisher.behind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::CountRange;

    /// Gives three bins, with nothing between the second and the third.
    struct Three(u64);

    impl Source for Three {
        fn receive(&mut self, bin: &mut Bin) -> Received {
            self.0 += 1;
            if self.0 == 3 {
                return Received::Nothing;
            }
            bin.seq = self.0;
            bin.fill([self.0 as f32].into_iter(), CountRange::new(9, 20.0));
            Received::Bin
        }
    }

    #[test]
    fn each_bin_is_copied_once_as_it_was_taken_in_and_each_estimate_after_it_was_published() {
        let (filled, taps) = open();
        let mut published = Vec::new();
        let publish = |estimate: &Estimate| published.push(estimate.seq);
        let (mut source, mut publisher) = put_between(Some(filled), Three(0), publish);
        let mut bin = Bin::empty();
        for _ in 0..4 {
            source.receive(&mut bin);
            // What the pipeline notes in the bin afterwards is in the copy.
            bin.stream = 10 + bin.seq;
        }
        source.receive(&mut bin);
        let copies: Vec<_> = taps.bins.drain().map(|bin| (bin.seq, bin.stream, bin.counts()[0])).collect();
        assert_eq!(copies, [(1, 11, 1.0), (2, 12, 2.0), (4, 14, 4.0)]);
        let mut estimate = Estimate::zero(1, 0);
        for seq in 0..2 * PLACES as u64 {
            estimate.seq = seq;
            publisher.publish(&estimate);
        }
        drop(publisher);
        assert_eq!(published.len(), 2 * PLACES);
        assert_eq!(taps.dropped(), (0, PLACES as u64));
        assert_eq!(taps.estimates.drain().map(|estimate| estimate.seq).next(), Some(PLACES as u64));
    }
}

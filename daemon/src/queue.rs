//! A bounded queue between two threads that drops its oldest item when it is full.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ndt_protocol::limits::QUEUE_BINS;

/// The sending end of a bounded queue. Only one thread may push.
pub struct Queue<T> {
    to: Sender<T>,
    oldest: Receiver<T>,
}

impl<T> Queue<T> {
    /// Makes an empty queue with [`QUEUE_BINS`] places whose memory is new to the kernel: for threads without deadlines.
    pub fn untouched() -> (Queue<T>, Receiver<T>) {
        let (to, from) = bounded(QUEUE_BINS);
        (Queue { to, oldest: from.clone() }, from)
    }

    /// Adds `item`, and drops the oldest item first when the queue is full. Returns whether one was dropped. Does not block:
    /// only one thread pushes, so one removal makes room.
    pub fn push(&self, item: T) -> bool {
        match self.to.try_send(item) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => false,
            Err(TrySendError::Full(item)) => {
                let dropped = self.oldest.try_recv().is_ok();
                // The queue has room now; a closed queue means that the pipeline is ending.
                drop(self.to.try_send(item));
                dropped
            }
        }
    }
}

impl<T: Clone> Queue<T> {
    /// Makes an empty queue with [`QUEUE_BINS`] places. Every place has been filled with `item` once, so that none of its
    /// pages is new to the kernel later.
    pub fn new(item: &T) -> (Queue<T>, Receiver<T>) {
        Queue::with_places(item, QUEUE_BINS)
    }

    /// Makes an empty queue with `places` places.
    pub fn with_places(item: &T, places: usize) -> (Queue<T>, Receiver<T>) {
        let (to, from) = bounded(places);
        while to.try_send(item.clone()).is_ok() {}
        while from.try_recv().is_ok() {}
        (Queue { to, oldest: from.clone() }, from)
    }
}

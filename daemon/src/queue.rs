//! A bounded queue between two threads that drops its oldest item when it is full.
//!
//! **Neither end takes a lock or spins**, so that a thread never waits for one of lower priority: items lie in a wait-free ring
//! (`ring`), and a receiver that finds none sleeps on a futex of its own. Pushing costs one system call, `futex`, if the receiver
//! sleeps, and none otherwise.

mod ring;

use ndt_protocol::limits::QUEUE_BINS;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The sending end of a bounded queue. One thread sends.
pub struct Queue<T> {
    items: ring::Writer<T>,
    shared: Arc<Shared>,
}

/// The receiving end of a bounded queue. One thread receives.
pub struct Receiver<T> {
    items: ring::Reader<T>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The thread that receives, once it has waited.
    waits: OnceLock<Thread>,
    is_closed: AtomicBool,
}

/// Why there is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// None came in time.
    Late,
    /// None will ever come: the sending end is gone, and the queue is empty.
    Closed,
}

impl<T> Queue<T> {
    /// Makes an empty queue with [`QUEUE_BINS`] places whose memory is new to the kernel: for threads without deadlines.
    pub fn untouched() -> (Queue<T>, Receiver<T>) {
        Queue::of(ring::ring(QUEUE_BINS, || None))
    }

    fn of((writer, reader): (ring::Writer<T>, ring::Reader<T>)) -> (Queue<T>, Receiver<T>) {
        let shared = Arc::new(Shared { waits: OnceLock::new(), is_closed: AtomicBool::new(false) });
        (Queue { items: writer, shared: shared.clone() }, Receiver { items: reader, shared })
    }

    /// Adds `item`, drops the oldest item if the queue is full, and wakes the receiver if it sleeps. Returns whether one was dropped.
    /// Neither waits, locks nor allocates.
    pub fn push(&self, item: T) -> bool {
        let dropped = self.items.push(item).is_some();
        self.shared.wake();
        dropped
    }
}

impl<T: Clone> Queue<T> {
    /// Makes an empty queue with [`QUEUE_BINS`] places. Every place has been filled with `item` once, so that none of its
    /// pages is new to the kernel later.
    pub fn new(item: &T) -> (Queue<T>, Receiver<T>) {
        Queue::with_places(item, QUEUE_BINS)
    }

    /// Makes an empty queue with `places` places, from 1 to 65,534.
    pub fn with_places(item: &T, places: usize) -> (Queue<T>, Receiver<T>) {
        Queue::of(ring::ring(places, || Some(item.clone())))
    }
}

impl<T> Drop for Queue<T> {
    /// The receiver gets what is left and then learns that the queue is closed.
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        self.shared.wake();
    }
}

impl<T> Receiver<T> {
    /// Removes the oldest item, if there is one. Neither waits, locks nor allocates.
    pub fn try_receive(&self) -> Option<T> {
        self.items.pop()
    }

    /// Removes the oldest item, and sleeps until there is one: for `patience` at most, or without an end. Neither locks nor allocates.
    ///
    /// # Errors
    /// [`Missing::Late`] after `patience`, [`Missing::Closed`] once the sending end is gone and the queue is empty.
    pub fn receive(&self, patience: Option<Duration>) -> Result<T, Missing> {
        if self.shared.waits.get().is_none() {
            self.shared.waits.get_or_init(std::thread::current);
            // The sending end either finds this thread, or has pushed before this thread looks.
            fence(SeqCst);
        }
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            // Closed is read first: what was pushed before is there then.
            let is_closed = self.shared.is_closed.load(SeqCst);
            if let Some(item) = self.try_receive() {
                return Ok(item);
            }
            if is_closed {
                return Err(Missing::Closed);
            }
            match until {
                None => std::thread::park(),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Missing::Late);
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.len() == 0
    }

    /// Removes the items that are there, one after the other, and ends at the first look that finds none.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_receive())
    }
}

impl Shared {
    /// Wakes the receiver, or keeps it from falling asleep.
    fn wake(&self) {
        fence(SeqCst);
        if let Some(thread) = self.waits.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::machine;
    use crate::host::realtime::{self, RealtimeSettings};
    use std::path::Path;

    #[test]
    fn a_full_queue_drops_its_oldest_item() {
        let (queue, receiver) = Queue::with_places(&0, 3);
        let dropped: Vec<bool> = (1..=5).map(|item| queue.push(item)).collect();
        assert_eq!(dropped, [false, false, false, true, true]);
        assert_eq!(receiver.len(), 3);
        assert_eq!(receiver.drain().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(receiver.receive(Some(Duration::ZERO)), Err(Missing::Late));
    }

    #[test]
    fn a_receiver_that_sleeps_gets_every_item_in_order_and_then_the_end() {
        const ITEMS: u64 = 20_000;
        let (queue, receiver) = Queue::<u64>::untouched();
        let (taken, takes) = std::sync::mpsc::channel();
        let receives = std::thread::spawn(move || {
            let mut items = Vec::new();
            loop {
                // Both kinds of sleep.
                let patience = items.len().is_multiple_of(2).then_some(Duration::from_secs(60));
                match receiver.receive(patience) {
                    Ok(item) => items.push(item),
                    Err(missing) => return (items, missing),
                }
                taken.send(()).unwrap();
            }
        });
        for item in 0..ITEMS {
            assert!(!queue.push(item));
            // The receiver is about to sleep, or sleeps, when the next item comes.
            takes.recv().unwrap();
        }
        drop(queue);
        assert_eq!(receives.join().unwrap(), ((0..ITEMS).collect(), Missing::Closed));
    }

    #[test]
    fn what_was_pushed_before_the_end_is_received() {
        let (queue, receiver) = Queue::untouched();
        queue.push(1);
        drop(queue);
        assert_eq!((receiver.receive(None), receiver.receive(None)), (Ok(1), Err(Missing::Closed)));
    }

    /// On one CPU, a receiver that preempts the sender in the middle of a push must not wait for it: the sender would never go on.
    #[test]
    fn a_receiver_of_higher_priority_on_the_same_cpu_never_waits_for_the_sender() {
        const ITEMS: u64 = 20_000;
        /// As large as an estimate of many units, so that a push takes a while.
        type Item = [u64; 2048];
        let cpus = vec![machine::online_cpus(Path::new("/")).first().copied().unwrap_or(0)];
        let at = |priority| RealtimeSettings { priority, cpus: cpus.clone(), ..RealtimeSettings::default() };
        let (sends, receives) = (at(1), at(2));
        let (queue, receiver) = Queue::<Item>::new(&[0; 2048]);
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for refused in realtime::enter(&receives) {
                println!("{refused}: the threads are not as unequal as they should be");
            }
            let mut received = 0;
            loop {
                // Wakes by the clock too, wherever the sender is.
                match receiver.receive(Some(Duration::from_micros(30))) {
                    Ok(_) => received += 1,
                    Err(Missing::Late) => {}
                    Err(Missing::Closed) => return done.send(received),
                }
            }
        });
        std::thread::spawn(move || {
            realtime::enter(&sends);
            for item in 0..ITEMS {
                queue.push([item; 2048]);
            }
        });
        let received = is_done.recv_timeout(Duration::from_secs(300)).expect("the receiver stands still");
        assert!(received > 0 && received <= ITEMS);
    }
}

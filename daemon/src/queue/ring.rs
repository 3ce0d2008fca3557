//! A ring of items between one writing and one reading thread, whose writer replaces the oldest item when the ring is full.
//!
//! **Neither end ever waits for the other.** A ring that reserves a place, copies an item into it and then publishes it, such as
//! `crossbeam_queue::ArrayQueue`, makes the other end spin while the copy is unfinished. If the copying thread was preempted by the
//! spinning one, which has a higher real-time priority and runs on the same CPU, both stand still for ever.
//!
//! Here an item is copied into a slot that the writer owns, and one atomic exchange puts the slot in a place of the ring. Each place
//! owns a slot at all times, full or empty, and each end owns one more: an exchange gives a slot and takes one.

use std::cell::{Cell, UnsafeCell};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Bits of a place's word that hold the number of a slot.
const SLOT_BITS: u32 = 16;

/// Most places of a ring: both ends have a slot besides.
const PLACES_MAX: usize = (1 << SLOT_BITS) - 2;

/// The end that pushes.
pub struct Writer<T> {
    ring: Arc<Ring<T>>,
    /// Slot that this end owns. It holds no item between two calls.
    own: Cell<usize>,
    /// Number of items pushed so far.
    next: Cell<u64>,
}

/// The end that pops.
pub struct Reader<T> {
    ring: Arc<Ring<T>>,
    /// Slot that this end owns. It holds no item between two calls.
    own: Cell<usize>,
    /// Number of items that were pushed before the one that this end looks for.
    next: Cell<u64>,
}

struct Ring<T> {
    /// What lies in each place, as [`Place::word`]. The item that was pushed as number `n` lies in place `n` modulo their number.
    places: Box<[AtomicU64]>,
    /// A slot is read and written by its owner alone.
    slots: Box<[UnsafeCell<Option<T>>]>,
    /// Number of items pushed, for [`Reader::len`].
    pushed: AtomicU64,
}

// SAFETY: a slot has one owner at a time: a place, of which nobody touches the slot, or one end. Ownership passes by an atomic
// exchange that releases what the giver has written and acquires what the taker reads.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: items move between threads with their slots.
unsafe impl<T: Send> Send for Ring<T> {}

/// The contents of a place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Number of the item that lies here; of an empty place, of the one that lay here last. 47 bits, 4,000 years of bins.
    item: u64,
    slot: usize,
    is_full: bool,
}

impl Place {
    fn word(self) -> u64 {
        self.item << (SLOT_BITS + 1) | (self.slot as u64) << 1 | u64::from(self.is_full)
    }

    fn of(word: u64) -> Place {
        let slot = (word >> 1) as usize & ((1 << SLOT_BITS) - 1);
        Place { item: word >> (SLOT_BITS + 1), slot, is_full: word & 1 == 1 }
    }
}

/// Makes an empty ring with `places` places, from 1 to [`PLACES_MAX`]. `item` is called once for each slot: what it returns is written
/// there and dropped, so that a slot's memory is known to the kernel.
pub fn ring<T>(places: usize, mut item: impl FnMut() -> Option<T>) -> (Writer<T>, Reader<T>) {
    let places = places.clamp(1, PLACES_MAX);
    let mut slots: Box<[_]> = (0..places + 2).map(|_| UnsafeCell::new(item())).collect();
    slots.iter_mut().for_each(|slot| *slot.get_mut() = None);
    let empty = |slot| AtomicU64::new(Place { item: 0, slot, is_full: false }.word());
    let ring = Arc::new(Ring { places: (0..places).map(empty).collect(), slots, pushed: AtomicU64::new(0) });
    let writer = Writer { ring: ring.clone(), own: Cell::new(places), next: Cell::new(0) };
    (writer, Reader { ring, own: Cell::new(places + 1), next: Cell::new(0) })
}

impl<T> Ring<T> {
    fn place(&self, item: u64) -> &AtomicU64 {
        &self.places[(item % self.places.len() as u64) as usize]
    }
}

impl<T> Writer<T> {
    /// Adds `item`. Returns the oldest item if the ring was full: `item` has replaced it.
    pub fn push(&self, item: T) -> Option<T> {
        let next = self.next.get();
        // SAFETY: the slot belongs to this end.
        unsafe { *self.ring.slots[self.own.get()].get() = Some(item) };
        let place = Place { item: next, slot: self.own.get(), is_full: true };
        let before = Place::of(self.ring.place(next).swap(place.word(), AcqRel));
        self.own.set(before.slot);
        self.next.set(next + 1);
        self.ring.pushed.store(next + 1, Relaxed);
        // SAFETY: the exchange has given the slot to this end.
        before.is_full.then(|| unsafe { (*self.ring.slots[before.slot].get()).take() }).flatten()
    }
}

impl<T> Reader<T> {
    /// Removes the oldest item, if there is one. Looks again only where the writer has pushed meanwhile.
    pub fn pop(&self) -> Option<T> {
        loop {
            let next = self.next.get();
            let place = self.ring.place(next);
            let word = place.load(Acquire);
            let found = Place::of(word);
            if !found.is_full {
                return None;
            }
            if found.item != next {
                // The writer has come round and replaced the item. The oldest one that may be left lies in the place behind.
                self.next.set(found.item + 1 - self.ring.places.len() as u64);
                continue;
            }
            let empty = Place { slot: self.own.get(), is_full: false, ..found };
            if place.compare_exchange(word, empty.word(), AcqRel, Acquire).is_ok() {
                self.own.set(found.slot);
                self.next.set(next + 1);
                // SAFETY: the exchange has given the slot to this end.
                return unsafe { (*self.ring.slots[found.slot].get()).take() };
            }
        }
    }

    /// Number of items. One that is being pushed may be missing.
    pub fn len(&self) -> usize {
        let waiting = self.ring.pushed.load(Relaxed).saturating_sub(self.next.get());
        waiting.min(self.ring.places.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    proptest! {
        /// Pushes (`true`) and pops in any order do what a deque does that drops its first item when it is full.
        #[test]
        fn it_is_a_deque_that_drops_its_first_item(places in 1usize..6, pushes in vec(any::<bool>(), 0..200)) {
            let (writer, reader) = ring(places, || Some(Box::new(u64::MAX)));
            let mut deque = VecDeque::new();
            for (number, is_push) in pushes.into_iter().enumerate() {
                if is_push {
                    let dropped = if deque.len() == places { deque.pop_front() } else { None };
                    deque.push_back(Box::new(number as u64));
                    prop_assert_eq!(writer.push(Box::new(number as u64)), dropped);
                } else {
                    prop_assert_eq!(reader.pop(), deque.pop_front());
                }
                prop_assert_eq!(reader.len(), deque.len());
            }
        }
    }

    /// An item whose halves differ when it is read while it is written.
    #[derive(Clone, Copy)]
    struct Halves([u64; 64]);

    #[test]
    fn every_item_is_whole_and_is_read_or_dropped_once() {
        const ITEMS: u64 = 200_000;
        for places in [1, 2, 7] {
            let (writer, reader) = ring(places, || None::<Halves>);
            let is_over = AtomicBool::new(false);
            let (mut read, mut dropped) = (Vec::new(), Vec::new());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (reader, read) = (reader, &mut read);
                    loop {
                        let is_last = is_over.load(SeqCst);
                        match reader.pop() {
                            Some(Halves(item)) => {
                                assert!(item.iter().all(|half| *half == item[0]));
                                read.push(item[0]);
                            }
                            None if is_last => return,
                            None => std::thread::yield_now(),
                        }
                    }
                });
                for item in 0..ITEMS {
                    dropped.extend(writer.push(Halves([item; 64])).map(|Halves(item)| item[0]));
                    if item % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
                is_over.store(true, SeqCst);
            });
            assert!(read.is_sorted_by(|one, next| one < next), "{places} places: out of order");
            assert!(dropped.is_sorted_by(|one, next| one < next), "{places} places: dropped out of order");
            let mut all = [read, dropped].concat();
            all.sort_unstable();
            assert_eq!(all, (0..ITEMS).collect::<Vec<_>>(), "{places} places");
        }
    }
}

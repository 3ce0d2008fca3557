//! The bodies of the three real-time threads.
//!
//! Each loop is a struct that owns all that its thread needs. A *turn* of a loop never waits and takes the time as an argument:
//! the simulation of the project's tests runs the same turns on a clock of its own. `run` is the thread: it waits, reads
//! the clock and takes turns.

use super::counters::Counters;
use super::heartbeats::Pulse;
use super::keep_warm::KeepWarm;
use super::orders::{DecodeOrder, Inbox, PublishOrder};
use super::shadow::Shadow;
use crate::decoder::Decoder;
use crate::guard::Guard;
use crate::input::{Arrival, Intake, Received, Source, Velocity};
use crate::output::Publisher;
use crate::queue::{Missing, Queue, Receiver};
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::{Bin, Estimate, Reasons};
use std::sync::Arc;
use std::time::Duration;

/// How often the estimates are described to subscribers that have just come.
const DESCRIBE_EVERY_NS: u64 = 1_000_000_000;

/// Longest sleep of a decode thread for which no bin comes, so that it takes orders then too.
const IDLE: Duration = Duration::from_millis(20);

/// What the guard learns from the source thread.
#[expect(
    clippy::large_enum_variant,
    reason = "it lies in a ring that allocates nothing, and nearly every event is an arrival"
)]
#[derive(Debug, Clone, Copy)]
pub enum SourceEvent {
    /// A bin has arrived.
    Arrived(Arrival),
    /// Why no bin comes: the connection is lost, or messages are refused. Told once, until a bin comes or the reason changes.
    Silent(Reasons),
}

/// Takes bins from a source, and hands each to the decode thread and its arrival to the publish thread.
///
/// `fallback` returns the velocity that the fallback decoder has for a bin.
pub struct SourceLoop<S, F> {
    source: S,
    fallback: F,
    intake: Intake,
    bin: Bin,
    /// Why no bin has come since the last one, as the guard was told; `None` while bins come.
    silence: Option<Reasons>,
    /// Queue to the guard. When the queue is full, the oldest event is dropped, and the guard answers that bin as if it had never
    /// come.
    events: Queue<SourceEvent>,
    /// Queue to the decoder. When the queue is full, the oldest bin is dropped, and the decoder takes that bin as missing.
    bins: Queue<Bin>,
    counters: Arc<Counters>,
}

impl<S: Source, F: FnMut(&Bin) -> Option<Velocity>> SourceLoop<S, F> {
    /// Makes the loop of a source thread.
    pub fn new(
        source: S,
        intake: Intake,
        fallback: F,
        events: Queue<SourceEvent>,
        bins: Queue<Bin>,
        counters: Arc<Counters>,
    ) -> Self {
        let (bin, silence) = (Bin::empty(), None);
        SourceLoop { source, fallback, intake, bin, silence, events, bins, counters }
    }

    /// Runs on the source thread until the pipeline stops or the source ends.
    pub fn run(mut self) {
        while !self.counters.is_stopping() && self.turn() {}
    }

    /// Receives once from the source, and returns whether more can come. Runs on the source thread, once a bin. Must not
    /// allocate, lock or log for a good bin.
    pub fn turn(&mut self) -> bool {
        let received = self.source.receive(&mut self.bin);
        let silence = match received {
            Received::Gone(_) => Some(Reasons::PEER_GONE),
            Received::Refused(_) => Some(Reasons::REFUSED),
            Received::Nothing => self.silence,
            Received::Bin | Received::Ended => None,
        };
        if let Some(reason) = silence.filter(|_| silence != self.silence) {
            self.counters.overflowed(self.events.push(SourceEvent::Silent(reason)));
        }
        self.silence = silence;
        match received {
            Received::Bin => self.take_in(),
            Received::Nothing => self.counters.present(),
            Received::Gone(absence) => self.counters.absent(absence),
            Received::Refused(refusal) => self.counters.refused(refusal),
            Received::Ended => return false,
        }
        true
    }

    fn take_in(&mut self) {
        let Some(mut arrival) = self.intake.take(&mut self.bin) else {
            return self.counters.empty(&self.bin);
        };
        let velocity = (self.fallback)(&self.bin);
        // Of channels that nobody has described, the fallback decoder knows as little as the model.
        arrival.velocity = velocity.filter(|_| !self.bin.undescribed);
        self.counters.received(&self.bin);
        self.counters.overflowed(self.events.push(SourceEvent::Arrived(arrival)));
        self.counters.pulse.handed(arrival.arrival_ns);
        self.counters.overflowed(self.bins.push(self.bin.clone()));
    }
}

/// Decodes bins in the order of the queue.
pub struct DecodeLoop {
    decoder: Box<Decoder>,
    /// Another model that takes in the same bins.
    beside: Option<Box<Shadow>>,
    inbox: Option<Inbox<DecodeOrder>>,
    warmth: KeepWarm,
    bins: Receiver<Bin>,
    /// Queue to the publish thread. When it is full, the oldest estimate is dropped, and the guard answers that bin at its
    /// deadline.
    estimates: Queue<Estimate>,
    counters: Arc<Counters>,
}

impl DecodeLoop {
    /// Makes the loop of a decode thread.
    pub fn new(
        decoder: Decoder,
        warmth: KeepWarm,
        bins: Receiver<Bin>,
        estimates: Queue<Estimate>,
        counters: Arc<Counters>,
    ) -> DecodeLoop {
        let decoder = Box::new(decoder);
        DecodeLoop { decoder, beside: None, inbox: None, warmth, bins, estimates, counters }
    }

    /// Has the loop take orders from `inbox`.
    #[must_use]
    pub fn obeying(self, inbox: Inbox<DecodeOrder>) -> DecodeLoop {
        DecodeLoop { inbox: Some(inbox), ..self }
    }

    /// Runs on the decode thread until the source thread ends. Sleeps on the queue, and runs a step without a bin whenever it
    /// was idle for as long as is configured.
    pub fn run(mut self, mut clock: impl FnMut() -> u64) {
        loop {
            let patience = self.warmth.patience(clock()).map_or(IDLE, |patience| patience.min(IDLE));
            match self.bins.receive(Some(patience)) {
                Ok(bin) => self.turn(&bin, &mut clock),
                Err(Missing::Late) => self.idle(&mut clock),
                Err(Missing::Closed) => return,
            }
        }
    }

    /// Removes the next bin from the queue, for callers that do not wait.
    pub fn next_bin(&self) -> Option<Bin> {
        self.bins.try_receive()
    }

    /// Carries out the orders that have come, decodes `bin`, and hands on an estimate for it and for each bin that is missing before it.
    /// Then the model beside, if there is one and time is left, takes in the bin too. `clock` is read before and after a step. Runs
    /// on the decode thread, once a bin. Must not allocate, block, lock or log.
    pub fn turn(&mut self, bin: &Bin, clock: &mut impl FnMut() -> u64) {
        self.take_orders();
        if let Some(beside) = &mut self.beside {
            beside.take_over(&mut self.decoder, bin);
        }
        let DecodeLoop { decoder, estimates, counters, .. } = self;
        let began_ns = clock();
        counters.pulse.busy(began_ns);
        let mut decoded_ns = None;
        decoder.decode(bin, self.bins.len(), began_ns, &mut |estimate| {
            estimate.decoded_ns = clock();
            decoded_ns = Some(estimate.decoded_ns);
            counters.overflowed(estimates.push(estimate.clone()));
        });
        self.counters.decoded(&self.decoder.counters());
        if let Some(beside) = &mut self.beside {
            decoded_ns.into_iter().for_each(|ns| beside.present_took(ns.saturating_sub(began_ns)));
            beside.keep(bin);
            self.step_beside(clock);
        }
        let now_ns = clock();
        self.warmth.computed(now_ns);
        self.counters.pulse.finished(now_ns, !self.bins.is_empty());
    }

    /// Does what can be done while no bin waits: the model beside catches up, orders are carried out, and caches are kept warm. Runs on
    /// the decode thread. Must not allocate, block, lock or log.
    pub fn idle(&mut self, clock: &mut impl FnMut() -> u64) {
        self.step_beside(clock);
        self.take_orders();
        if self.bins.is_empty() && self.warmth.patience(clock()) == Some(Duration::ZERO) {
            self.keep_warm(clock);
        }
    }

    /// Has the model beside take in bins that were put off, as long as no bin waits and there is room for a step.
    fn step_beside(&mut self, clock: &mut impl FnMut() -> u64) {
        let DecodeLoop { decoder, beside: Some(beside), bins, counters, .. } = self else { return };
        loop {
            let now_ns = clock();
            if !bins.is_empty() || !beside.has_room(now_ns) {
                return;
            }
            counters.pulse.busy(now_ns);
            beside.step(decoder, clock);
            counters.pulse.finished(clock(), !bins.is_empty());
        }
    }

    /// Carries out the orders that have come, before the next bin. While the model beside is behind they wait, because an order holds
    /// from the same bin on for both.
    fn take_orders(&mut self) {
        let DecodeLoop { decoder, beside, inbox: Some(inbox), .. } = self else { return };
        if beside.as_ref().is_some_and(|beside| beside.is_behind()) {
            return;
        }
        while let Some(mut order) = inbox.take() {
            order.is_done = true;
            match &mut order.what {
                DecodeOrder::Model(model) => {
                    model.apply_to(decoder);
                    beside.iter_mut().for_each(|beside| model.apply_to(beside.decoder_mut()));
                }
                DecodeOrder::Beside(other) => std::mem::swap(beside, other),
                DecodeOrder::RollBack => {
                    order.is_done = beside.as_mut().is_some_and(|beside| beside.come_back());
                }
            }
            order.holds_from = decoder.next_bin();
            inbox.give_back(order);
        }
    }

    /// Runs one step without a bin. It starts only while no bin waits, so that it delays a bin by less than a step.
    fn keep_warm(&mut self, clock: &mut impl FnMut() -> u64) {
        self.counters.pulse.busy(clock());
        let is_warm = self.decoder.keep_warm();
        let now_ns = clock();
        match is_warm {
            true => self.warmth.computed(now_ns),
            false => self.warmth = KeepWarm::never(),
        }
        self.counters.pulse.finished(now_ns, !self.bins.is_empty());
    }
}

/// Publishes exactly one estimate for each bin period.
pub struct PublishLoop<P> {
    guard: Guard,
    publisher: P,
    look_every_ns: u64,
    describe_ns: u64,
    events: Receiver<SourceEvent>,
    estimates: Receiver<Estimate>,
    inbox: Option<Inbox<PublishOrder>>,
    counters: Arc<Counters>,
}

impl<P: Publisher> PublishLoop<P> {
    /// Makes the loop of a publish thread. It looks for arrivals every `look_every_ns` at least.
    pub fn new(
        guard: Guard,
        look_every_ns: u64,
        publisher: P,
        events: Receiver<SourceEvent>,
        estimates: Receiver<Estimate>,
        counters: Arc<Counters>,
    ) -> Self {
        let (describe_ns, inbox) = (0, None);
        PublishLoop { guard, publisher, look_every_ns, describe_ns, events, estimates, inbox, counters }
    }

    /// Has the loop take orders from `inbox`.
    #[must_use]
    pub fn obeying(self, inbox: Inbox<PublishOrder>) -> Self {
        PublishLoop { inbox: Some(inbox), ..self }
    }

    /// Runs the loop on the publish thread until the decode thread ends. The thread sleeps until a result comes: an arrival need
    /// not wake it, as long as it looks for arrivals often enough to know of each before the deadline of the bin.
    pub fn run(mut self, mut clock: impl FnMut() -> u64) {
        loop {
            let now_ns = clock();
            self.describe(now_ns);
            let wake_ns = self.wake_ns(now_ns);
            let patience = Duration::from_nanos(wake_ns.saturating_sub(now_ns));
            match self.estimates.receive(Some(patience)) {
                Ok(result) => self.turn(Some(&result), &mut clock),
                Err(Missing::Late) => self.turn(None, &mut clock),
                Err(Missing::Closed) => return,
            }
        }
    }

    /// Describes the estimates when a description is due. Runs on the publish thread, before each turn.
    pub fn describe(&mut self, now_ns: u64) {
        if now_ns >= self.describe_ns {
            self.publisher.describe();
            self.counters.slow_subscribers(self.publisher.behind());
            self.describe_ns = now_ns + DESCRIBE_EVERY_NS;
        }
    }

    /// When the next turn is due if no result comes before.
    pub fn wake_ns(&self, now_ns: u64) -> u64 {
        self.guard.wake_ns().unwrap_or(u64::MAX).min(now_ns + self.look_every_ns).min(self.describe_ns)
    }

    /// Carries out the orders that have come, takes in every event and every result that is there, `first` before those in the queue, and then answers what is due
    /// without a result. Runs on the publish thread, once a bin and at every deadline. Must not block, lock or log; allocates
    /// only the frames that a transport takes over.
    ///
    /// A thread that wakes late finds several results. All of them are published before a deadline is looked at, since an answer
    /// of the policy would come no earlier than the result that is there.
    pub fn turn(&mut self, first: Option<&Estimate>, clock: &mut impl FnMut() -> u64) {
        self.take_orders();
        if let Some(result) = first {
            self.publish(result, clock);
        }
        // No more than a full queue, so that a decoder that never pauses cannot keep the deadlines waiting.
        for _ in 0..QUEUE_BINS {
            let Some(result) = self.estimates.try_receive() else { break };
            self.publish(&result, clock);
        }
        self.take_events();
        let (now_ns, PublishLoop { guard, publisher, counters, .. }) = (clock(), self);
        counters.pulse.turned(now_ns);
        guard.tick(now_ns, &mut |estimate| stamp_and_publish(publisher, &counters.pulse, estimate, clock()));
        counters.published(&guard.counters());
    }

    /// Hands a result to the guard, after the arrival of its bin, which is in the queue of events before the result is in its own.
    fn publish(&mut self, result: &Estimate, clock: &mut impl FnMut() -> u64) {
        self.take_events();
        let (now_ns, PublishLoop { guard, publisher, counters, .. }) = (clock(), self);
        guard.decoded(result, now_ns, &mut |estimate| {
            stamp_and_publish(publisher, &counters.pulse, estimate, clock());
        });
        counters.published(&guard.counters());
    }

    /// Carries out the orders that have come, before the next estimate.
    fn take_orders(&mut self) {
        let Some(inbox) = &self.inbox else { return };
        while let Some(mut order) = inbox.take() {
            order.is_done = true;
            match &order.what {
                PublishOrder::Describe(description) => self.publisher.describe_as(description),
                pause_or_resume => {
                    let is_paused = *pause_or_resume == PublishOrder::Pause;
                    order.holds_from = self.guard.inhibit(is_paused);
                    self.counters.paused(is_paused);
                }
            }
            inbox.give_back(order);
        }
    }

    fn take_events(&mut self) {
        for event in self.events.drain() {
            match event {
                SourceEvent::Arrived(arrival) => self.guard.arrived(arrival),
                SourceEvent::Silent(reason) => self.guard.silent_because(reason),
            }
        }
    }
}

fn stamp_and_publish(publisher: &mut impl Publisher, pulse: &Pulse, estimate: &mut Estimate, now_ns: u64) {
    estimate.published_at(now_ns);
    publisher.publish(estimate);
    pulse.published(estimate, now_ns);
}

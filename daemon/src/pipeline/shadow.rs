//! A second model that takes in the same bins as the present one, on the decode thread, after the present one's estimate is on its way:
//! a candidate that is to take over, or the model that was replaced and may come back.
//!
//! A model in shadow has seen every bin in order when it takes over, so that no bin is without an estimate and no estimate has less
//! history than before. **It never delays a bin that comes**: its step begins only while no bin waits and when a step has
//! taken less time than is left until the next bin is due. Otherwise the bin is put off, and caught up with later. A model that
//! falls behind by more than the bins that are kept is given up.

pub mod comparison;

use crate::decoder::Decoder;
use comparison::{Comparison, Figures};
use ndt_protocol::bin::Due;
use ndt_protocol::bundle::manifest::{Manifest, Positions};
use ndt_protocol::{Bin, Bundle, Quality};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Bins that are kept for a model in shadow that cannot follow at once.
const PUT_OFF_MAX: usize = 256;

/// A model in shadow. The control plane makes it, and the decode loop owns it.
pub struct Shadow {
    decoder: Box<Decoder>,
    role: Role,
    /// Bins that the decoder has not taken in yet, oldest first.
    put_off: VecDeque<Bin>,
    /// Bins that the decoder has taken in.
    taken_in: u64,
    /// Bins after which nothing that came before can change an answer.
    reach_bins: usize,
    bin_width_ns: u64,
    /// When the next bin is due, by the newest one that came.
    next_due_ns: u64,
    /// How long a step takes, as a moving average, ns.
    step_ns: u64,
    comparison: Comparison,
    progress: Arc<Progress>,
}

/// What a model in shadow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It takes over once it has taken in so many bins, and its history is in place.
    Candidate { bins_min: u64 },
    /// It was replaced, and may come back.
    Replaced,
    /// It fell behind, and is of no use any more.
    GivenUp,
}

/// What the control plane knows of a model in shadow.
#[derive(Debug, Default)]
pub struct Progress {
    state: AtomicU8,
    taken_in: AtomicU64,
    stream: AtomicU64,
    seq: AtomicU64,
    /// What both models say.
    pub figures: Figures,
}

/// Where a model in shadow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It follows the bins.
    Following,
    /// It has taken over, from this bin of this stream on.
    TookOver {
        /// Stream of the bin.
        stream: u64,
        /// Number of the bin.
        seq: u64,
    },
    /// It fell behind and was given up.
    FellBehind,
}

impl Progress {
    /// Where the model stands.
    pub fn state(&self) -> State {
        match self.state.load(Acquire) {
            0 => State::Following,
            1 => State::TookOver { stream: self.stream.load(Relaxed), seq: self.seq.load(Relaxed) },
            _ => State::FellBehind,
        }
    }

    /// Number of bins that the model has taken in.
    pub fn taken_in(&self) -> u64 {
        self.taken_in.load(Relaxed)
    }

    fn took_over(&self, bin: &Bin) {
        self.stream.store(bin.stream, Relaxed);
        self.seq.store(bin.seq, Relaxed);
        // Whoever sees this sees the bin too.
        self.state.store(1, Release);
    }
}

impl Shadow {
    /// Makes a candidate out of a decoder for `bundle`, whose step is known to take `step_ns`. It takes over after `bins_min` bins
    /// at the earliest. Allocates all that it will ever need; not for real-time threads.
    pub fn candidate(bundle: &Bundle, decoder: Decoder, bins_min: u64, step_ns: u64) -> Shadow {
        let mut put_off: VecDeque<Bin> = std::iter::repeat_n(Bin::empty(), PUT_OFF_MAX).collect();
        // Its memory is known to the kernel from here on.
        put_off.clear();
        Shadow {
            decoder: Box::new(decoder),
            role: Role::Candidate { bins_min },
            put_off,
            taken_in: 0,
            reach_bins: reach_bins(&bundle.manifest),
            bin_width_ns: bundle.manifest.bin_width_ns(),
            next_due_ns: 0,
            step_ns,
            comparison: Comparison::new(&bundle.manifest),
            progress: Arc::default(),
        }
    }

    /// What the control plane can read while the decode loop owns the model.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Its decoder, for an order to all models.
    pub fn decoder_mut(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Number of bins that an answer can depend on.
    pub fn reach_bins(&self) -> usize {
        self.reach_bins
    }

    /// Whether it has not taken in every bin that came.
    pub fn is_behind(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// Has a model that was replaced take over again, and returns whether it can.
    pub fn come_back(&mut self) -> bool {
        let can = self.role == Role::Replaced;
        if can {
            self.role = Role::Candidate { bins_min: 0 };
            self.progress.state.store(0, Release);
        }
        can
    }

    /// Keeps a bin that the present model has just taken in. Runs on the decode thread, once a bin. Must not allocate, block, lock or
    /// log; nor may any of the following methods.
    pub fn keep(&mut self, bin: &Bin) {
        if self.role == Role::GivenUp {
            return;
        }
        if self.put_off.len() == PUT_OFF_MAX {
            // That a replaced model has once taken over remains so.
            if self.role != Role::Replaced {
                self.progress.state.store(2, Release);
            }
            self.role = Role::GivenUp;
            self.put_off.clear();
            return;
        }
        // A bin that came late does not make the next one late.
        let due_ns = match bin.due {
            Due::At(due_ns) => due_ns.min(bin.arrival_ns),
            Due::Unknown | Due::Before => bin.arrival_ns,
        };
        self.next_due_ns = due_ns.saturating_add(self.bin_width_ns);
        self.put_off.push_back(bin.clone());
    }

    /// Whether a bin waits for it, and twice the time of a step is left until the next bin is due. A source that has missed a whole
    /// period is taken to be silent.
    pub fn has_room(&self, now_ns: u64) -> bool {
        let room_ns = self.step_ns.saturating_mul(2);
        let is_silent = now_ns >= self.next_due_ns.saturating_add(self.bin_width_ns);
        let left_ns = if is_silent { self.bin_width_ns } else { self.next_due_ns.saturating_sub(now_ns) };
        !self.put_off.is_empty() && room_ns <= left_ns
    }

    /// Takes in the oldest bin that was put off. `clock` is read before and after. `present` is the decoder whose estimates are published.
    pub fn step(&mut self, present: &Decoder, clock: &mut impl FnMut() -> u64) {
        let Some(bin) = self.put_off.pop_front() else { return };
        let started_ns = clock();
        let mut emitted = false;
        self.decoder.decode(&bin, 0, started_ns, &mut |_| emitted = true);
        let took_ns = clock().saturating_sub(started_ns);
        // A step that was interrupted for long says nothing of the model.
        self.step_ns = self.step_ns - self.step_ns / 8 + took_ns.min(self.bin_width_ns) / 8;
        self.taken_in += 1;
        self.progress.taken_in.store(self.taken_in, Relaxed);
        let (ours, theirs) = (self.decoder.last_estimate(), present.last_estimate());
        let is_same = (ours.stream, ours.seq) == (theirs.stream, theirs.seq);
        if !emitted || !is_same || self.role == Role::Replaced {
            return;
        }
        self.progress.figures.shadow_step(took_ns);
        if (ours.quality, theirs.quality) == (Quality::Good, Quality::Good) {
            self.comparison.take_in(&bin, theirs, ours, &self.progress.figures);
        }
    }

    /// Notes how long the present model took for a bin.
    pub fn present_took(&self, ns: u64) {
        if matches!(self.role, Role::Candidate { .. }) {
            self.progress.figures.present_step(ns);
        }
    }

    /// Exchanges the two models before `bin` if the candidate is to take over and has seen all that the present one knows of.
    pub fn take_over(&mut self, present: &mut Box<Decoder>, bin: &Bin) {
        let Role::Candidate { bins_min } = self.role else { return };
        let known = present.history_bins().min(self.reach_bins);
        if self.is_behind() || self.taken_in < bins_min || self.decoder.history_bins() < known {
            return;
        }
        self.decoder.continue_counts_of(present);
        std::mem::swap(present, &mut self.decoder);
        self.role = Role::Replaced;
        self.progress.took_over(bin);
    }
}

/// Number of bins that an answer of the model of `manifest` can depend on.
fn reach_bins(manifest: &Manifest) -> usize {
    let architecture = &manifest.architecture;
    let of_model = match (manifest.linear, architecture.positions) {
        (Some(linear), _) => linear.window_bins,
        (None, Positions::LagBias) => {
            architecture.layers.saturating_mul(architecture.window_bins.saturating_sub(1)) + 1
        }
        (None, Positions::Learned) => architecture.window_bins,
    };
    of_model.max(manifest.warmup_bins)
}

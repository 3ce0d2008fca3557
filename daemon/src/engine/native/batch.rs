//! Whole trials at once, for offline use. It computes the same function as bin by bin, and is faster. Not for
//! real-time threads.
//!
//! Each trial is a stream that starts cold. With lag biases a trial is one pass under the banded mask. A learned
//! table has positions for one window only, so that each bin beyond the first window is the newest of a window of its
//! own. Each thread takes the next trial when it has done one; the numbers of a trial do not depend on the thread or
//! on the number of threads.

use super::aligned::Aligned;
use super::forward::{Network, Pass, Wanted};
use super::simd::InstructionSet;
use crate::engine::golden::{GOLDEN_TOLERANCE, difference};
use crate::engine::{EngineError, Input};
use ndt_protocol::Bundle;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// A bundle's model, packed to evaluate trials.
pub struct Batch {
    network: Network,
    threads: NonZeroUsize,
    channels: usize,
    units: usize,
    dims: usize,
}

/// Input: trials of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Trials<'a> {
    /// Spike counts, `[trials, bins, channels]`. Counts of missing bins are not looked at.
    pub counts: &'a [f32],
    /// Not 0 for bins that never arrived, `[trials, bins]`. `None`: no bin is missing.
    pub missing: Option<&'a [f32]>,
    /// Number of trials.
    pub trials: usize,
    /// Number of bins in each trial.
    pub bins: usize,
}

/// Output for all trials.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Log firing rates, ln(spikes/s), `[trials, bins, units]`.
    pub log_rates: Vec<f32>,
    /// Velocity, m/s, `[trials, bins, dims]`; empty when the model has no velocity head.
    pub velocity: Vec<f32>,
}

/// The arrays of the trials fit neither each other nor the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The number of counts is wrong.
    #[error(
        "expected {expected} counts for {trials} trials of {bins} bins and {channels} channels, found {found}"
    )]
    Counts {
        /// Number of trials.
        trials: usize,
        /// Number of bins in each trial.
        bins: usize,
        /// Channels of the bundle.
        channels: usize,
        /// Required number of counts: trials x bins x channels.
        expected: usize,
        /// Number of counts that were given.
        found: usize,
    },
    /// The number of flags of missing bins is wrong.
    #[error("expected {expected} flags of missing bins for {trials} trials of {bins} bins, found {found}")]
    Missing {
        /// Number of trials.
        trials: usize,
        /// Number of bins in each trial.
        bins: usize,
        /// Required number of flags: trials x bins.
        expected: usize,
        /// Number of flags that were given.
        found: usize,
    },
}

impl Batch {
    /// Packs the weights of `bundle` for the best instructions of this machine. At most `threads` threads compute.
    pub fn new(bundle: &Bundle, threads: NonZeroUsize) -> Batch {
        Batch::with(bundle, threads, InstructionSet::best())
    }

    /// Does what [`Batch::new`] does, for the instructions of `set`, or portable ones when the machine lacks them.
    pub fn with(bundle: &Bundle, threads: NonZeroUsize, set: InstructionSet) -> Batch {
        Batch {
            network: Network::new(bundle, set),
            threads,
            channels: bundle.manifest.channels(),
            units: bundle.manifest.units(),
            dims: bundle.manifest.velocity_dims(),
        }
    }

    /// Returns the name of the kernel. Two kernels of the same name give the same bits for the same bundle.
    pub fn name(&self) -> String {
        format!("native batch {}", self.network.instruction_set().name())
    }

    /// Computes the output of every bin of every trial. `done` is called after each trial, on the thread that
    /// computed it.
    ///
    /// # Errors
    /// [`BatchError`] when an array does not have the length of its shape.
    pub fn evaluate(&self, trials: Trials, done: &(dyn Fn() + Sync)) -> Result<Answers, BatchError> {
        self.check(trials)?;
        let Trials { trials: count, bins, .. } = trials;
        let mut answers = Answers {
            log_rates: vec![0.0; count * bins * self.units],
            velocity: vec![0.0; count * bins * self.dims],
        };
        let queue = Mutex::new(Queue {
            next: 0,
            end: if bins == 0 { 0 } else { count },
            log_rates: &mut answers.log_rates,
            velocity: &mut answers.velocity,
        });
        let work = || {
            let mut worker = None;
            loop {
                // The lock is released at the end of this statement.
                let task = queue.lock().unwrap_or_else(PoisonError::into_inner).take(self, bins);
                let Some(task) = task else { return };
                worker.get_or_insert_with(|| Worker::new(&self.network, bins)).evaluate(self, trials, task);
                done();
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.get().min(count) {
                // When the system has no thread left, the existing ones do its work.
                let _ = std::thread::Builder::new().name("ndt-batch".into()).spawn_scoped(scope, work);
            }
            work();
        });
        Ok(answers)
    }

    fn check(&self, trials: Trials) -> Result<(), BatchError> {
        let Trials { counts, missing, trials, bins } = trials;
        let channels = self.channels;
        let product = |factors: [usize; 3]| factors.into_iter().fold(1usize, usize::saturating_mul);
        let (expected, found) = (product([trials, bins, channels]), counts.len());
        if expected != found {
            return Err(BatchError::Counts { trials, bins, channels, expected, found });
        }
        match missing.map(<[f32]>::len) {
            Some(found) if found != trials * bins => {
                Err(BatchError::Missing { trials, bins, expected: trials * bins, found })
            }
            _ => Ok(()),
        }
    }

    /// Evaluates the golden stream of `bundle`, and returns the largest differences `(log rates, velocity)` from the
    /// golden answers.
    ///
    /// # Errors
    /// [`EngineError::Golden`] when a difference is above [`GOLDEN_TOLERANCE`]; the model must not be used then.
    pub fn reproduce_golden(&self, bundle: &Bundle) -> Result<(f32, f32), EngineError> {
        let golden = |name: &str| bundle.golden.get(name).map_or(&[][..], |(_, values)| values.as_slice());
        let golden_velocity = bundle.golden_velocity();
        let missing = Some(golden("missing"));
        let trials = Trials { counts: golden("counts"), missing, trials: 1, bins: bundle.golden_bins() };
        // Golden vectors of a bundle that was read have their shapes.
        let found = self.evaluate(trials, &|| {}).map_err(|_| crate::engine::StepFailed)?;
        let pairs = [
            ("log rates", &found.log_rates, golden("log_rates"), self.units),
            ("velocity", &found.velocity, golden_velocity.as_slice(), self.dims),
        ];
        let mut worst = [0.0f32; 2];
        for (worst, (what, found, expected, of)) in worst.iter_mut().zip(pairs) {
            let rows = found.chunks_exact(of.max(1)).zip(expected.chunks_exact(of.max(1)));
            for (bin, (found, expected)) in rows.enumerate() {
                let found = difference(found, expected);
                // A NaN is in no range, so that it is refused too.
                if !(0.0..=GOLDEN_TOLERANCE).contains(&found) {
                    return Err(EngineError::Golden { what, tolerance: GOLDEN_TOLERANCE, found, bin });
                }
                *worst = worst.max(found);
            }
        }
        Ok((worst[0], worst[1]))
    }
}

/// Trials that no thread has taken yet, and the room for their outputs.
struct Queue<'a> {
    next: usize,
    end: usize,
    log_rates: &'a mut [f32],
    velocity: &'a mut [f32],
}

/// One trial, and the room for its outputs.
struct Task<'a> {
    trial: usize,
    log_rates: &'a mut [f32],
    velocity: &'a mut [f32],
}

impl<'a> Queue<'a> {
    fn take(&mut self, batch: &Batch, bins: usize) -> Option<Task<'a>> {
        if self.next == self.end {
            return None;
        }
        let (log_rates, rest) = std::mem::take(&mut self.log_rates).split_at_mut(bins * batch.units);
        self.log_rates = rest;
        let (velocity, rest) = std::mem::take(&mut self.velocity).split_at_mut(bins * batch.dims);
        self.velocity = rest;
        self.next += 1;
        Some(Task { trial: self.next - 1, log_rates, velocity })
    }
}

/// The buffers of one thread.
struct Worker {
    pass: Pass,
    /// Read-ins of a trial's bins, `[bins, width]`; used when a bin is seen at several positions.
    readins: Aligned<f32>,
}

impl Worker {
    fn new(network: &Network, bins: usize) -> Worker {
        let whole = if network.has_positions() { bins.min(network.window()) } else { bins };
        let readins = if network.has_positions() { bins * network.stride() } else { 0 };
        Worker { pass: Pass::new(network, whole), readins: Aligned::zeros(readins) }
    }

    fn evaluate(&mut self, batch: &Batch, trials: Trials, task: Task) {
        let Batch { network, channels, units, dims, .. } = batch;
        let Task { trial, log_rates, velocity } = task;
        let bins = trial * trials.bins..(trial + 1) * trials.bins;
        let inputs = bins.map(|bin| Input {
            counts: &trials.counts[bin * channels..][..*channels],
            missing: trials.missing.is_some_and(|missing| missing[bin] != 0.0),
        });
        let mut answer = |bin: usize, rates: &[f32], speeds: &[f32]| {
            log_rates[bin * units..][..*units].copy_from_slice(rates);
            velocity[bin * dims..][..*dims].copy_from_slice(speeds);
        };
        if !network.has_positions() {
            for (bin, input) in inputs.enumerate() {
                network.read_in(input, self.pass.row(network, bin));
            }
            self.pass.run(network, trials.bins, Wanted::All, &mut answer);
            return;
        }
        let (stride, window) = (network.stride(), network.window());
        for (input, row) in inputs.zip(self.readins.chunks_exact_mut(stride)) {
            network.read_in(input, row);
        }
        let whole = trials.bins.min(window);
        self.place(network, 0, whole);
        self.pass.run(network, whole, Wanted::All, &mut answer);
        for last in whole..trials.bins {
            self.place(network, last + 1 - window, window);
            self.pass.run(network, window, Wanted::Newest, &mut |_, rates, speeds| {
                answer(last, rates, speeds);
            });
        }
    }

    /// Copies `count` bins, from `first` on, to the positions of a window.
    fn place(&mut self, network: &Network, first: usize, count: usize) {
        for place in 0..count {
            let readin = &self.readins[(first + place) * network.stride()..][..network.stride()];
            network.at_position(place, readin, self.pass.row(network, place));
        }
    }
}

//! The engine as the daemon sees it: one bin in, rates and velocity out. Two implementations give the same numbers to 1e-4.
//!
//! | module | what computes |
//! |---|---|
//! | [`native`] | our own kernels; the default |
//! | [`onnx`] | ONNX Runtime, loaded at run time |
//! | [`linear`] | the linear decoder of a bundle that holds one; counts as `native` in the configuration |
//!
//! All are loaded from the same bundle, and [`load`] refuses an engine that does not reproduce the bundle's golden vectors
//! ([`golden`]).

pub mod golden;
pub mod linear;
pub mod native;
pub mod onnx;

pub use golden::{Difference, GOLDEN_TOLERANCE, reproduce_golden, tolerance};

use linear::LinearDecoder;
use native::simd::InstructionSet;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Positions;
use ndt_protocol::bundle::precision::{Loss, Precision};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One bin of input: `counts` of all channels, or a missing bin, whose counts are not looked at.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Spikes of each channel; 0 for an invalid channel.
    pub counts: &'a [f32],
    /// Whether the bin never came.
    pub missing: bool,
}

/// One bin of output.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// ln(spikes/s) of each unit.
    pub log_rates: Vec<f32>,
    /// m/s; empty without a velocity head.
    pub velocity: Vec<f32>,
}

impl Output {
    /// Room for the outputs of `bundle`.
    pub fn for_bundle(bundle: &Bundle) -> Self {
        let (units, dims) = (bundle.manifest.units(), bundle.manifest.velocity_dims());
        Output { log_rates: vec![0.0; units], velocity: vec![0.0; dims] }
    }
}

/// A causal model with its state: keys and values, or a window of bins.
pub trait Engine: Send {
    /// Takes in one bin and computes its output. Runs on the decode thread, once a bin.
    /// Must not block, lock or log; the native engine does not allocate either.
    ///
    /// # Errors
    /// [`StepFailed`] when the library behind it fails; the bin then counts as not taken in.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed>;

    /// Takes in one bin without computing its output: the state is then, to the bit, as after [`Engine::step`].
    /// Runs on the decode thread for bins whose answer would come too late; the same rules hold.
    ///
    /// # Errors
    /// [`StepFailed`] as for [`Engine::step`].
    fn observe(&mut self, input: Input) -> Result<(), StepFailed>;

    /// What computes, for logs and descriptions: two engines of the same name give the same bits.
    fn name(&self) -> String {
        "unnamed".to_owned()
    }

    /// Computes something that no later answer shows, so that caches and contexts stay hot while no bin comes; whether
    /// the engine has such a step. Runs on the decode thread; the same rules hold as for [`Engine::step`], and it takes
    /// no longer.
    fn keep_warm(&mut self) -> bool {
        false
    }

    /// Forgets all bins. Runs on the decode thread at a segment's start.
    fn reset(&mut self);
}

/// An engine could not compute a bin. Owns no memory: it arises on the decode thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the engine to compute a bin, found a failure of its library")]
pub struct StepFailed;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Our own kernel.
    Native,
    /// ONNX Runtime.
    Onnx,
}

/// Which engine, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub kind: EngineKind,
    /// Vector instructions of the native engine; the best of the machine where not set.
    pub instruction_set: Option<InstructionSet>,
    /// Bits of the native engine's numbers; the fewest that the bundle has been measured to stand where not set.
    pub precision: Option<Precision>,
    /// ONNX Runtime's shared library, where it is not in its usual place.
    pub onnxruntime_library: Option<PathBuf>,
    /// How ONNX Runtime runs.
    pub onnx: onnx::OnnxSettings,
}

/// Why an engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ONNX Runtime cannot be loaded or refuses the graph.
    #[error(transparent)]
    Onnx(#[from] onnx::OnnxError),
    /// The machine lacks the instructions that are configured.
    #[error("expected a CPU with {expected} instructions, found one with {found} at best")]
    Instructions {
        /// What was asked for.
        expected: &'static str,
        /// The best that there is.
        found: &'static str,
    },
    /// Nobody knows what the bundle loses in so few bits.
    #[error(
        "expected a bundle that was measured in {precision} when it was exported, found one that was not"
    )]
    Unmeasured {
        /// What was asked for.
        precision: &'static str,
    },
    /// A linear decoder has neither graphs nor a choice of bits.
    #[error("expected the native engine in f32 for a linear decoder, found {found}")]
    Linear {
        /// What was asked for.
        found: &'static str,
    },
    /// The graphs compute the bundle's first velocity.
    #[error("expected the native engine for a velocity that is not the bundle's first, found onnx")]
    Readout,
    /// The engine's numbers are not the trainer's.
    #[error(
        "expected the bundle's golden {what} within {tolerance:e}, found a difference of {found:e} at bin {bin}"
    )]
    Golden {
        /// `log rates` or `velocity`.
        what: &'static str,
        /// Largest difference allowed.
        tolerance: f32,
        /// Largest difference found.
        found: f32,
        /// Where.
        bin: usize,
    },
    /// The engine failed on a golden bin.
    #[error(transparent)]
    Step(#[from] StepFailed),
}

/// Loads the engine for `bundle` and has it reproduce the golden vectors. Not for real-time threads.
///
/// # Errors
/// [`EngineError`] when the library is missing, or the numbers are not the trainer's.
pub fn load(choice: &Choice, bundle: &Bundle) -> Result<Box<dyn Engine>, EngineError> {
    load_and_compare(choice, bundle).map(|(engine, _)| engine)
}

/// As [`load`], and how far its answers are from the golden vectors.
///
/// # Errors
/// As of [`load`].
pub fn load_and_compare(
    choice: &Choice,
    bundle: &Bundle,
) -> Result<(Box<dyn Engine>, Difference), EngineError> {
    if let Some(mut engine) = linear(choice, bundle)? {
        let tolerance = tolerance(Precision::F32, bundle)?;
        let found = reproduce_golden(&mut engine, bundle, tolerance)?;
        return Ok((Box::new(engine), found));
    }
    if choice.kind == EngineKind::Onnx && bundle.step_onnx.is_empty() {
        return Err(EngineError::Readout);
    }
    let set = choice.instruction_set();
    if !set.is_available() {
        return Err(EngineError::Instructions { expected: set.name(), found: InstructionSet::best().name() });
    }
    let precision = precision(choice, bundle);
    let tolerance = tolerance(precision, bundle)?;
    let mut engine: Box<dyn Engine> = match choice.kind {
        EngineKind::Native => Box::new(native::Native::with(bundle, set, precision)),
        EngineKind::Onnx => {
            Box::new(onnx::OnnxStep::with(bundle, choice.onnxruntime_library.as_ref(), &choice.onnx)?)
        }
    };
    let found = reproduce_golden(engine.as_mut(), bundle, tolerance)?;
    Ok((engine, found))
}

/// The linear decoder of a bundle that holds one.
fn linear(choice: &Choice, bundle: &Bundle) -> Result<Option<LinearDecoder>, EngineError> {
    let decoder = LinearDecoder::new(bundle);
    match (choice.kind, choice.precision) {
        _ if decoder.is_none() => Ok(None),
        (EngineKind::Onnx, _) => Err(EngineError::Linear { found: "onnx" }),
        (_, Some(precision)) if precision != Precision::F32 => {
            Err(EngineError::Linear { found: precision.name() })
        }
        _ => Ok(decoder),
    }
}

impl Choice {
    fn instruction_set(&self) -> InstructionSet {
        self.instruction_set.unwrap_or_else(InstructionSet::best)
    }
}

/// Bits of the numbers of an engine: as configured, else the fewest whose loss has been measured and is small, where fewer
/// bits are faster: with the wide registers of Intel's and AMD's CPUs. (Portable code takes 3 to 5 times as long with
/// them; on ARM it has not been measured.)
pub fn precision(choice: &Choice, bundle: &Bundle) -> Precision {
    let is_faster = matches!(
        choice.instruction_set(),
        InstructionSet::Avx512Bf16
            | InstructionSet::Avx512Vnni
            | InstructionSet::Avx512
            | InstructionSet::Avx2
    );
    let is_possible =
        choice.kind == EngineKind::Native && bundle.manifest.architecture.positions == Positions::LagBias;
    if bundle.manifest.linear.is_some() {
        return Precision::F32;
    }
    let is_small =
        |precision: &Precision| bundle.manifest.precisions.get(precision).is_some_and(Loss::is_small);
    let best = [Precision::Int8, Precision::Bf16].into_iter().find(is_small);
    match choice.precision {
        _ if !is_possible => Precision::F32,
        Some(configured) => configured,
        None => best.filter(|_| is_faster).unwrap_or(Precision::F32),
    }
}

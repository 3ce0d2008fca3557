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

pub mod check;
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

/// One bin of input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Spikes of each channel, 0 for an invalid one. Not looked at when `missing` is set.
    pub counts: &'a [f32],
    /// Whether the bin never arrived.
    pub missing: bool,
}

/// The engine's answer to one bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Log firing rate of each unit, ln(spikes/s).
    pub log_rates: Vec<f32>,
    /// Velocity, m/s; empty when the model has no velocity head.
    pub velocity: Vec<f32>,
}

impl Output {
    /// Allocates the buffers for the outputs of `bundle`.
    pub fn for_bundle(bundle: &Bundle) -> Self {
        let (units, dims) = (bundle.manifest.units(), bundle.manifest.velocity_dims());
        Output { log_rates: vec![0.0; units], velocity: vec![0.0; dims] }
    }
}

/// A causal model and its state: cached keys and values, or a window of bins.
pub trait Engine: Send {
    /// Takes in one bin and computes its output. Runs on the decode thread, once a bin. Must not block, lock or log;
    /// the native engine does not allocate either.
    ///
    /// # Errors
    /// [`StepFailed`] when the library behind the engine fails. The bin then counts as not taken in.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed>;

    /// Takes in one bin without computing its output. The state is then the same, to the bit, as after
    /// [`Engine::step`]. Runs on the decode thread for bins whose answer would come too late; the rules of
    /// [`Engine::step`] hold.
    ///
    /// # Errors
    /// [`StepFailed`] as for [`Engine::step`].
    fn observe(&mut self, input: Input) -> Result<(), StepFailed>;

    /// Names what computes, for logs and stream descriptions: two engines of the same name give the same bits.
    fn name(&self) -> String {
        "unnamed".to_owned()
    }

    /// Runs a step that changes no later answer, so that caches stay warm while no bin comes. Returns whether the
    /// engine has such a step. Runs on the decode thread; the rules of [`Engine::step`] hold, and it takes no longer.
    fn keep_warm(&mut self) -> bool {
        false
    }

    /// Forgets all bins. Runs on the decode thread at the start of a segment.
    fn reset(&mut self);
}

/// An engine failed to compute a bin. Owns no memory, because it arises on the decode thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the engine to compute a bin, found a failure of its library")]
pub struct StepFailed;

/// The kind of engine that the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Our own kernels.
    Native,
    /// ONNX Runtime.
    Onnx,
}

impl EngineKind {
    /// All kinds of engines.
    pub const ALL: [EngineKind; 2] = [EngineKind::Native, EngineKind::Onnx];

    /// Returns the engine's name, as used in the configuration and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Native => "native",
            EngineKind::Onnx => "onnx",
        }
    }

    /// Returns the engine of this name.
    ///
    /// # Errors
    /// One sentence, where there is none.
    pub fn named(name: &str) -> Result<EngineKind, String> {
        let found = EngineKind::ALL.into_iter().find(|kind| kind.name() == name);
        let names = || EngineKind::ALL.map(EngineKind::name).join(" or ");
        found.ok_or_else(|| format!("expected {}, found \"{name}\"", names()))
    }
}

/// The engine that the configuration asks for, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Kind of engine.
    pub kind: EngineKind,
    /// Vector instructions of the native engine. Default: the best that this machine has.
    pub instruction_set: Option<InstructionSet>,
    /// Number format of the native engine. Default: the smallest format whose measured loss is small (see
    /// [`precision`]).
    pub precision: Option<Precision>,
    /// Path of ONNX Runtime's shared library. Default: its usual place.
    pub onnxruntime_library: Option<PathBuf>,
    /// Options of ONNX Runtime.
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
        /// Instruction set that was asked for.
        expected: &'static str,
        /// Best instruction set of this machine.
        found: &'static str,
    },
    /// The bundle does not say what it loses in this number format.
    #[error(
        "expected a bundle that was measured in {precision} when it was exported, found one that was not"
    )]
    Unmeasured {
        /// Number format that was asked for.
        precision: &'static str,
    },
    /// A linear decoder has no ONNX graphs and one number format.
    #[error("expected the native engine in f32 for a linear decoder, found {found}")]
    Linear {
        /// Number format that was asked for.
        found: &'static str,
    },
    /// The ONNX graphs compute only the velocity that the bundle publishes.
    #[error(
        "expected the native engine for another velocity than the one that the bundle publishes, found onnx"
    )]
    Readout,
    /// The engine's numbers differ from the trainer's.
    #[error(
        "expected the bundle's golden {what} within {tolerance:e}, found a difference of {found:e} at bin {bin}"
    )]
    Golden {
        /// Which output differs: `log rates` or `velocity`.
        what: &'static str,
        /// Largest allowed difference, ln(spikes/s) or m/s.
        tolerance: f32,
        /// Largest difference that was found.
        found: f32,
        /// Bin of the golden stream with the largest difference.
        bin: usize,
    },
    /// The bundle has no golden bins, so that nothing shows whether the engine computes what the trainer did.
    #[error("expected golden vectors of at least one bin in the bundle, found none")]
    NoGolden,
    /// The engine failed on a golden bin.
    #[error(transparent)]
    Step(#[from] StepFailed),
}

/// Loads the engine for `bundle` and checks it against the golden vectors. Not for real-time threads.
///
/// # Errors
/// [`EngineError`] when the library is missing or the numbers differ from the trainer's.
pub fn load(choice: &Choice, bundle: &Bundle) -> Result<Box<dyn Engine>, EngineError> {
    load_and_compare(choice, bundle).map(|(engine, _)| engine)
}

/// Does what [`load`] does, and returns how far the engine's answers are from the golden vectors.
///
/// # Errors
/// The same as for [`load`].
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

/// Returns the linear decoder of a bundle that holds one, unless `choice` asks for what it does not have.
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

/// Number format of the engine that `choice` and `bundle` lead to: the configured one, or else the smallest whose
/// measured loss is small, on instruction sets where a smaller format is faster. Those are the wide registers of
/// Intel's and AMD's CPUs; portable code takes 3 to 5 times as long with small formats, and ARM has not been
/// measured.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_list_under_its_name_in_the_configuration() {
        // The message of an unknown variant lists all variants of the enum, which the list could otherwise forget.
        let error = serde_json::from_str::<EngineKind>("\"none of them\"").unwrap_err().to_string();
        let quoted: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(quoted, EngineKind::ALL.map(EngineKind::name), "{error}");
    }
}

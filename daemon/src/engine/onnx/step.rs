//! The engine on ONNX Runtime: `step.onnx`, one bin at a time with its own cache.

use super::contract::{self, NEXT, OWN_INPUTS};
use super::session::{OnnxError, one_line, session};
use super::settings::{OnnxSettings, Provider};
use crate::engine::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynTensor, Outlet, PrimitiveTensorElementType, ValueType};
use std::fmt::Debug;
use std::path::PathBuf;

/// The inputs of a run in the graph's order: [`OWN_INPUTS`], then the cache.
struct Feed(Vec<SessionInputValue<'static>>);

impl Feed {
    fn write<T: PrimitiveTensorElementType + Debug + Copy>(
        &mut self,
        at: usize,
        values: &[T],
    ) -> ort::Result<()> {
        match self.0.get_mut(at) {
            Some(SessionInputValue::Owned(value)) => {
                value.try_extract_tensor_mut::<T>()?.1.copy_from_slice(values);
                Ok(())
            }
            _ => Err(ort::Error::new("expected a tensor of our own, found a view")),
        }
    }
}

/// The slot of the cache that the next bin takes, and the age of the bin in each slot.
struct Ring {
    slot: usize,
    /// Age of the bin in each slot, bins; the number of slots for a slot that holds no bin.
    lags: Vec<i64>,
}

impl Ring {
    /// Takes the slot of the oldest bin for the next one, and returns it.
    fn take(&mut self) -> usize {
        let taken = self.slot;
        let none = self.lags.len() as i64;
        self.lags.iter_mut().for_each(|lag| *lag = (*lag + 1).min(none));
        self.lags[taken] = 0;
        self.slot = (taken + 1) % self.lags.len();
        taken
    }

    /// Empties all slots. The next bin takes the first slot, so that the same stream gives the same bits after every
    /// reset.
    fn clear(&mut self) {
        self.slot = 0;
        let none = self.lags.len() as i64;
        self.lags.fill(none);
    }
}

/// The cached step. All tensors are made once. The graph writes its new cache over the old one: the two differ in one
/// row, and ONNX Runtime's `ScatterND` copies the other rows only when input and output are two buffers. A runtime
/// that did otherwise would not reproduce the golden vectors. With CUDA the cache stays on the GPU.
pub struct OnnxStep {
    session: Session,
    /// The outputs that are wanted, with the tensors that receive them.
    outputs: RunOptions<HasSelectedOutputs>,
    /// The inputs with an empty cache, for the first bin.
    cold: Feed,
    /// The inputs with the cache that `outputs` writes.
    warm: Feed,
    is_cold: bool,
    ring: Ring,
    /// Zeros in place of the counts of a missing bin, which the graph does not look at.
    silence: Vec<f32>,
    has_velocity: bool,
    name: String,
}

impl OnnxStep {
    /// Loads `step.onnx` of `bundle` with the default settings, reset. `library` is the path of ONNX Runtime; `None`
    /// for its usual place.
    ///
    /// # Errors
    /// The same as for [`OnnxStep::with`].
    pub fn new(bundle: &Bundle, library: Option<&PathBuf>) -> Result<Self, OnnxError> {
        OnnxStep::with(bundle, library, &OnnxSettings::default())
    }

    /// Loads `step.onnx` of `bundle`, warms it up, and leaves it reset.
    ///
    /// # Errors
    /// [`OnnxError`] when the library is missing, lacks the provider, or refuses the graph.
    pub fn with(
        bundle: &Bundle,
        library: Option<&PathBuf>,
        settings: &OnnxSettings,
    ) -> Result<Self, OnnxError> {
        let session = session(STEP, &bundle.step_onnx, library, settings)?;
        let mut step = OnnxStep::of(bundle, session, settings).map_err(refused_step)?;
        for _ in 0..settings.warm_up_bins {
            step.take(None).map_err(refused_step)?;
        }
        step.reset();
        Ok(step)
    }

    fn of(bundle: &Bundle, mut session: Session, settings: &OnnxSettings) -> ort::Result<Self> {
        contract::check(&session, &bundle.manifest).map_err(ort::Error::new)?;
        let on_host = Allocator::default();
        let memory = match settings.provider {
            Provider::Cpu => Allocator::default(),
            Provider::Cuda => {
                let device = (AllocationDevice::CUDA, settings.cuda_device);
                let place = MemoryInfo::new(device.0, device.1, AllocatorType::Device, MemoryType::Default)?;
                Allocator::new(&session, place)?
            }
        };
        let mut outputs = OutputSelector::no_default();
        for output in session.outputs().iter().filter(|output| output.name() != "rates") {
            let place = if output.name().ends_with(NEXT) { &memory } else { &on_host };
            outputs = outputs.with(output.name()).preallocate(output.name(), tensor(output, place)?);
        }
        let outputs = RunOptions::new()?.with_outputs(outputs);
        let mut ring = Ring { slot: 0, lags: vec![0; bundle.manifest.architecture.window_bins] };
        ring.clear();
        let mut cold = Feed(inputs(&session, session.inputs().len())?);
        let mut warm = Feed(inputs(&session, OWN_INPUTS.len())?);
        // A run returns the tensors that it was told to write, so that they can become inputs too.
        let memory: Vec<String> =
            names_after(&session, OWN_INPUTS.len()).map(|name| format!("{name}{NEXT}")).collect();
        cold.write(3, &ring.lags)?;
        let mut results = session.run_with_options(&cold.0[..], &outputs)?;
        for name in &memory {
            let value = results.remove(name).ok_or_else(|| ort::Error::new(format!("no output {name}")))?;
            warm.0.push(SessionInputValue::Owned(value));
        }
        drop(results);
        Ok(OnnxStep {
            session,
            outputs,
            cold,
            warm,
            is_cold: true,
            ring,
            silence: vec![0.0; bundle.manifest.channels()],
            has_velocity: bundle.manifest.velocity_dims() > 0,
            name: name(settings),
        })
    }

    /// Takes in a bin; `None` for a missing one.
    fn take(&mut self, counts: Option<&[f32]>) -> ort::Result<SessionOutputs<'_>> {
        let slot = self.ring.take();
        let was_cold = std::mem::replace(&mut self.is_cold, false);
        self.run(counts, slot, was_cold)
    }

    /// Runs the graph, which writes to row `slot` of the cache and to no other.
    fn run(&mut self, counts: Option<&[f32]>, slot: usize, is_cold: bool) -> ort::Result<SessionOutputs<'_>> {
        let feed = if is_cold { &mut self.cold } else { &mut self.warm };
        feed.write(0, counts.unwrap_or(&self.silence))?;
        feed.write(1, &[counts.is_none()])?;
        feed.write(2, &[slot as i64])?;
        feed.write(3, &self.ring.lags)?;
        self.session.run_with_options(&feed.0[..], &self.outputs)
    }
}

const STEP: &str = "step.onnx";

fn refused_step(error: ort::Error) -> OnnxError {
    OnnxError::Graph { graph: STEP, found: one_line(&error.to_string()) }
}

fn name(settings: &OnnxSettings) -> String {
    let provider = match settings.provider {
        Provider::Cpu => "onnx cpu",
        Provider::Cuda => "onnx cuda",
    };
    match settings.intra_op_threads {
        1 => provider.to_owned(),
        threads => format!("{provider} x{threads}"),
    }
}

fn names_after(session: &Session, own: usize) -> impl Iterator<Item = &str> {
    session.inputs().iter().skip(own).map(|input| input.name())
}

/// Makes a tensor of zeros (undefined on a GPU) in the shape that `outlet` declares.
fn tensor(outlet: &Outlet, place: &Allocator) -> ort::Result<DynTensor> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => DynTensor::new(place, *ty, shape.clone()),
        other => Err(ort::Error::new(format!("{} of type {other}", outlet.name()))),
    }
}

/// Makes tensors of zeros for the first `count` inputs.
fn inputs(session: &Session, count: usize) -> ort::Result<Vec<SessionInputValue<'static>>> {
    let place = Allocator::default();
    let tensors = session.inputs().iter().take(count).map(|input| tensor(input, &place));
    tensors.map(|tensor| Ok(SessionInputValue::Owned(tensor?.into_dyn()))).collect()
}

/// Copies an output of the graph, whose shape has been checked when the graph was loaded.
fn read(results: &SessionOutputs<'_>, name: &str, to: &mut [f32]) -> ort::Result<()> {
    let found = results.get(name).ok_or_else(|| ort::Error::new("a missing output"))?;
    let values = found.try_extract_tensor::<f32>()?.1;
    if values.len() != to.len() {
        return Err(ort::Error::new("an output of another length"));
    }
    to.copy_from_slice(values);
    Ok(())
}

impl Engine for OnnxStep {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        let has_velocity = self.has_velocity;
        let mut step = || {
            let results = self.take((!input.missing).then_some(input.counts))?;
            read(&results, "log_rates", &mut output.log_rates)?;
            if has_velocity {
                read(&results, "velocity", &mut output.velocity)?;
            }
            Ok::<(), ort::Error>(())
        };
        step().map_err(|_| StepFailed)
    }

    /// Runs the graph and discards its outputs. This takes as long as a step: the graph computes its outputs whether they are
    /// wanted or not.
    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.take((!input.missing).then_some(input.counts)).map(drop).map_err(|_| StepFailed)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    /// Starts with an empty cache at the next bin: whatever is in the used one, even numbers that are not finite, is
    /// forgotten.
    fn reset(&mut self) {
        self.ring.clear();
        self.is_cold = true;
    }

    /// Runs a step at the slot that the next bin takes, which overwrites what this step writes there.
    fn keep_warm(&mut self) -> bool {
        // A failure shows again at the next bin, where it is handled.
        drop(self.run(None, self.ring.slot, self.is_cold));
        true
    }
}

//! What `step.onnx` must take and give: names, element types and shapes. A graph of another contract is refused when it is loaded.

use super::session::one_line;
use ndt_protocol::Manifest;
use ndt_protocol::limits::{CHANNELS_MAX, LAYERS_MAX, WIDTH_MAX, WINDOW_BINS_MAX};
use ort::session::Session;
use ort::value::TensorElementType::{self, Bool, Float32, Int64};
use ort::value::{Outlet, ValueType};

/// Names of the inputs that are new with each bin, in the graph's order. The cache follows them.
pub(super) const OWN_INPUTS: [&str; 4] = ["counts", "missing", "slot", "lags"];

/// Suffix of the name of a cache tensor where it is an output.
pub(super) const NEXT: &str = "_next";

/// Most tensors of a cache: keys and values of each layer.
const CACHE_MAX: usize = 2 * LAYERS_MAX;

/// Most numbers in a tensor of a cache.
const CACHE_NUMBERS_MAX: i64 =
    (WINDOW_BINS_MAX * if WIDTH_MAX > CHANNELS_MAX { WIDTH_MAX } else { CHANNELS_MAX }) as i64;

/// Checks the graph against the bundle. An error says what was found, as the end of a sentence.
pub(super) fn check(session: &Session, manifest: &Manifest) -> Result<(), String> {
    let (inputs, outputs) = (session.inputs(), session.outputs());
    let names: Vec<&str> = inputs.iter().map(Outlet::name).collect();
    if !names.starts_with(&OWN_INPUTS) {
        return Err(format!("the inputs {}", names.join(", ")));
    }
    let window = manifest.architecture.window_bins as i64;
    let own: [(TensorElementType, &[i64]); 4] =
        [(Float32, &[1, manifest.channels() as i64]), (Bool, &[1]), (Int64, &[1, 1]), (Int64, &[window])];
    for (input, (element, shape)) in inputs.iter().zip(own) {
        is_tensor("input", input, element, shape)?;
    }
    let output = |name: &str| {
        let found = outputs.iter().find(|output| output.name() == name);
        found.ok_or_else(|| format!("no output {name}"))
    };
    is_tensor("output", output("log_rates")?, Float32, &[1, manifest.units() as i64])?;
    if manifest.velocity_dims() > 0 {
        is_tensor("output", output("velocity")?, Float32, &[1, manifest.velocity_dims() as i64])?;
    }
    let cache = &inputs[OWN_INPUTS.len()..];
    if cache.len() > CACHE_MAX {
        return Err(format!("a cache of {} tensors, more than {CACHE_MAX}", cache.len()));
    }
    for input in cache {
        let next = output(&format!("{}{NEXT}", input.name()))?;
        match input.dtype() {
            ValueType::Tensor { ty: ty @ (Float32 | Bool), shape, .. } if is_in_limits(shape) => {
                is_tensor("output", next, *ty, shape)?;
            }
            other => {
                return Err(format!("the input {} of {}", input.name(), one_line(&other.to_string())));
            }
        }
    }
    // All of the graph's outputs are given memory, known ones or not.
    let known = |name: &str| ["log_rates", "rates", "velocity"].contains(&name);
    let is_next = |name: &str| cache.iter().any(|input| name.strip_suffix(NEXT) == Some(input.name()));
    match outputs.iter().find(|output| !known(output.name()) && !is_next(output.name())) {
        Some(other) => Err(format!("an output {}", other.name())),
        None => Ok(()),
    }
}

fn is_in_limits(shape: &[i64]) -> bool {
    let numbers = shape.iter().try_fold(1i64, |numbers, dim| numbers.checked_mul(*dim).filter(|_| *dim > 0));
    numbers.is_some_and(|numbers| numbers <= CACHE_NUMBERS_MAX)
}

/// Checks that an input or output is a tensor of this type and shape.
fn is_tensor(
    what: &str,
    outlet: &Outlet,
    element: TensorElementType,
    expected: &[i64],
) -> Result<(), String> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } if *ty == element && shape[..] == *expected => Ok(()),
        other => {
            let (name, other) = (outlet.name(), one_line(&other.to_string()));
            Err(format!("the {what} {name} of {other} in place of {element} {expected:?}"))
        }
    }
}

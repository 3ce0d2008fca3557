//! ONNX Runtime as the engine. This module and its submodules are the only place that names `ort`, so that nobody needs
//! ONNX Runtime to build or to run the daemon.
//!
//! | module | what it does |
//! |---|---|
//! | `settings` | the table `[onnx]` of the configuration |
//! | `contract` | what `step.onnx` must take and give |
//! | `session` | loads the shared library and a graph |
//! | `step` | [`OnnxStep`]: feeds `step.onnx` one bin and its own cache; the engine |
//! | `window` | [`OnnxWindow`]: runs `window.onnx` over whole trials, for offline use and the parity tests |

mod contract;
mod session;
mod settings;
mod step;
mod window;

pub use session::{OnnxError, usual_library};
pub use settings::{OnnxSettings, Provider};
pub use step::OnnxStep;
pub use window::OnnxWindow;

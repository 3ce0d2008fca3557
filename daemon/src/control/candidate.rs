//! Reads the bundle that is to take over from the running one, and checks that nobody who reads the estimates would notice more than
//! another bundle id: same channels, same bins, same units, same outputs.

use crate::config::{Config, ConfigError, ReadBundleError};
use crate::engine::{self, Engine, EngineError, Input, Output};
use ndt_protocol::bundle::manifest::{Manifest, Readout};
use ndt_protocol::{Bundle, clock};
use std::path::{Path, PathBuf};

/// Steps of which the median is taken for the time of a step.
const TIMED_STEPS: usize = 50;

/// A bundle that has been read and checked, and its engine.
pub struct Candidate {
    /// The bundle.
    pub bundle: Bundle,
    /// An engine that has reproduced the golden vectors, reset.
    pub engine: Box<dyn Engine>,
    /// Median time of a step on the thread that has loaded it, ns.
    pub step_ns: u64,
}

/// Why a bundle cannot take over.
#[derive(Debug, thiserror::Error)]
#[error("bundle {path}: {problem}")]
pub struct CandidateError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with a bundle that is to take over.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] ReadBundleError),
    /// The engine cannot be loaded or does not reproduce the golden vectors.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The configuration does not fit the bundle.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It differs from the running bundle in what the rig or the readers rely on.
    #[error("expected {what} as of the running bundle, {expected}, found {found}")]
    Differs {
        /// What differs.
        what: &'static str,
        /// That of the running bundle.
        expected: String,
        /// That of this one.
        found: String,
    },
}

/// Reads the bundle at `path` in place of the configured one, checks it against the running bundle of `present`, and loads and times its engine. Takes as
/// long as the start of a daemon; not for real-time threads.
///
/// # Errors
/// [`CandidateError`] when it cannot be used in place of the running bundle.
pub fn load(config: &Config, path: &Path, present: &Manifest) -> Result<Candidate, CandidateError> {
    let refuse = |problem: Problem| CandidateError { path: path.to_owned(), problem };
    let config = Config { bundle: path.to_owned(), ..config.clone() };
    let bundle = config.read_bundle().map_err(|error| refuse(error.into()))?;
    fits(&bundle.manifest, present).map_err(refuse)?;
    config.guard(&bundle.manifest).map_err(|error| refuse(error.into()))?;
    let mut engine = engine::load(&config.engine(), &bundle).map_err(|error| refuse(error.into()))?;
    let step_ns = step_ns(engine.as_mut(), &bundle);
    engine.reset();
    Ok(Candidate { bundle, engine, step_ns })
}

/// Checks that a bundle can take over from the running one without a change that a rig or a reader has to know of.
fn fits(candidate: &Manifest, present: &Manifest) -> Result<(), Problem> {
    let differs = |what, expected: String, found: String| Err(Problem::Differs { what, expected, found });
    if candidate.channel_ids != present.channel_ids {
        let [expected, found] = [&present.channel_ids, &candidate.channel_ids].map(|ids| listed(ids));
        return differs("channel ids in the order", expected, found);
    }
    if candidate.bin_width_ns() != present.bin_width_ns() {
        let [expected, found] = [present, candidate].map(|of| format!("{} ms", of.bin_width_ms));
        return differs("bins", expected, found);
    }
    if candidate.unit_ids != present.unit_ids {
        let [expected, found] = [&present.unit_ids, &candidate.unit_ids].map(|ids| listed(ids));
        return differs("unit ids in the order", expected, found);
    }
    let [expected, found] = [present, candidate].map(|of| described(of.velocity()));
    if expected != found {
        return differs("the published readout", expected, found);
    }
    // The source goes on refusing counts above those of the running bundle.
    if candidate.count_max < present.count_max {
        let [expected, found] = [present, candidate].map(|of| of.count_max.to_string());
        return differs("a count-max of at least that", expected, found);
    }
    Ok(())
}

/// A list of ids, shortened to its ends.
fn listed(ids: &[i64]) -> String {
    match ids {
        [] => "none".to_owned(),
        [first, .., last] if ids.len() > 6 => format!("{} from {first} to {last}", ids.len()),
        few => few.iter().map(i64::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn described(readout: Option<&Readout>) -> String {
    readout.map_or_else(
        || "none".to_owned(),
        |Readout { dims, unit, lag_ms, series }| {
            format!("{dims} components of {series} in {unit} for {lag_ms} ms after the bin\'s centre")
        },
    )
}

/// Median time of a step, ns, over golden bins.
fn step_ns(engine: &mut dyn Engine, bundle: &Bundle) -> u64 {
    let channels = bundle.manifest.channels();
    let mut output = Output::for_bundle(bundle);
    let counts = bundle.golden.get("counts").map_or(&[][..], |(_, counts)| counts.as_slice());
    let mut times: Vec<u64> = counts
        .chunks_exact(channels.max(1))
        .cycle()
        .take(TIMED_STEPS)
        .map(|counts| {
            let began_ns = clock::monotonic_ns();
            // A failure shows in shadow.
            let _ = engine.step(Input { counts, missing: false }, &mut output);
            clock::monotonic_ns() - began_ns
        })
        .collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

//! The library in one page: read a recording, fit a model, export its bundle and evaluate it.
//!
//! ```sh
//! cargo run --release -p ndt-trainer --example fit_and_evaluate -- session.nwb model
//! ```
//!
//! Without arguments it fits a small model to a simulated session.

use ndt_protocol::Bundle;
use ndt_replay::nwb;
use ndt_replay::simulate::{self, simulate};
use ndt_trainer::config::ConfigFile;
use ndt_trainer::evaluation::{Evaluation, evaluate};
use ndt_trainer::recipe::{Prepared, Recipe, provenance};
use ndt_trainer::{export, training};
use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Fits a model to `recording`, writes its bundle to `out` and scores the bundle on the validation trials.
pub fn fit_and_evaluate(recording: &Path, recipe: &Recipe, out: &Path) -> Result<Evaluation, Box<dyn Error>> {
    let session = nwb::read(recording)?;
    let Prepared { data, config, notes } = recipe.prepare(std::slice::from_ref(&session))?;
    notes.iter().for_each(|note| println!("{note}"));
    let fit = training::fit(&data, &config, None, &mut |progress| {
        println!("epoch {} of {}, loss {:.4}", progress.epoch, progress.epochs, progress.loss);
        // Break stops the fit.
        ControlFlow::Continue(())
    })?;
    let origin = provenance(&[recording.to_owned()], config.optimiser.seed, fit.epoch, None)?;
    export::bundle(&fit, &data, &config, origin)?.write(out)?;
    Ok(evaluate(&Bundle::read(out)?, &session, "val")?)
}

/// A simulated session and a configuration that fits it in seconds, in `folder`.
pub fn small_session(folder: &Path) -> Result<(PathBuf, Recipe), Box<dyn Error>> {
    let (session, config) = (folder.join("session.nwb"), folder.join("fit.toml"));
    let simulated = simulate(&simulate::Recipe { trials: 60, units: 24, heldout: 6, seed: 7 });
    nwb::write(&simulated, &session)?;
    std::fs::write(
        &config,
        "[model]\nwidth = 16\nlayers = 1\n[objective]\nredrawn = 0.0\nteacher-weight = 0.0\n",
    )?;
    Ok((session, Recipe { config: Some(ConfigFile::read(&config)?), epochs: Some(6), ..Recipe::default() }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let evaluation = match &arguments[..] {
        [recording, out] => fit_and_evaluate(recording, &Recipe::default(), out)?,
        _ => {
            let folder = std::env::temp_dir().join("ndt-fit-and-evaluate");
            std::fs::create_dir_all(&folder)?;
            let (recording, recipe) = small_session(&folder)?;
            fit_and_evaluate(&recording, &recipe, &folder.join("model"))?
        }
    };
    println!("co-bps {:?}", evaluation.co_bps);
    evaluation.readouts.iter().for_each(|readout| println!("{} R2 {:?}", readout.series, readout.mean));
    Ok(())
}

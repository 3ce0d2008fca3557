//! `ndt-replay simulate`: writes a simulated session and prints what is in it.

use super::overwrite::Overwrite;
use super::print;
use clap::Args;
use ndt_replay::simulate::Recipe;
use ndt_replay::{inspect, nwb, simulate};
use std::path::PathBuf;

pub const EXAMPLE: &str = "Example: ndt-replay simulate --out session.nwb --trials 200 --seed 7";

#[derive(Args)]
pub struct Simulate {
    /// Path of the recording to write (NWB).
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Number of trials; a trial lasts about 1.7 s.
    #[arg(long, default_value_t = Recipe::default().trials)]
    trials: usize,
    /// Number of units, including held-out units.
    #[arg(long, default_value_t = Recipe::default().units)]
    units: usize,
    /// Number of held-out units [default: a quarter of the units].
    #[arg(long)]
    heldout: Option<usize>,
    /// Random seed.
    #[arg(long, default_value_t = Recipe::default().seed)]
    seed: u64,
}

pub fn simulate(options: &Simulate) -> anyhow::Result<()> {
    let Simulate { trials, units, seed, .. } = *options;
    let recipe = Recipe { trials, units, heldout: options.heldout.unwrap_or(units / 4), seed };
    recipe.check()?;
    options.overwrite.check(&options.out, nwb::RECORDING, [])?;
    let session = simulate::simulate(&recipe);
    nwb::write(&session, &options.out)?;
    print(&inspect::summarize(&session))
}

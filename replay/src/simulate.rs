//! Simulated sessions: delayed reaches and a motor population, made from a seed.
//!
//! The task is that of the benchmark's maze sessions (`reaches`): a target appears, a go cue comes after a random delay,
//! the hand leaves the centre along a smooth path (`trajectory`), and a population fires (`population`, `spikes`). Units
//! are observed inside of trials only. **The same recipe gives the same session.** The course of a trial does not depend on
//! the number of units, nor the tuning of a unit on the number of trials.

mod population;
mod reaches;
mod spikes;
mod trajectory;

use crate::random::generator;
use crate::session::{Series, Session};
use population::Course;
use rand::seq::SliceRandom;
use reaches::PlannedTrial;

/// Stream of random numbers that chooses the held-out units.
const HELDOUT_STREAM: u64 = 3;

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Number of trials; a trial lasts about 1.7 s.
    pub trials: usize,
    /// Number of units, including held-out units.
    pub units: usize,
    /// Number of held-out units; the seed decides which ones.
    pub heldout: usize,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl Default for Recipe {
    /// Returns a recipe with the size of the benchmark's small training set.
    fn default() -> Self {
        Recipe { trials: 200, units: 142, heldout: 35, seed: 1 }
    }
}

/// Why a recipe cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The recipe has no trials or no units.
    #[error("expected at least one trial and one unit, found {trials} trials and {units} units")]
    Empty {
        /// Number of trials in the recipe.
        trials: usize,
        /// Number of units in the recipe.
        units: usize,
    },
    /// All units would be held out, so that a model would see none.
    #[error("expected fewer held-out units than the {units} units, found {heldout}")]
    Heldout {
        /// Number of units in the recipe.
        units: usize,
        /// Number of held-out units in the recipe.
        heldout: usize,
    },
}

impl Recipe {
    /// Checks that the recipe gives a session that can be used.
    ///
    /// # Errors
    /// [`RecipeError`] if there are no trials, no units, or only held-out units.
    pub fn check(&self) -> Result<(), RecipeError> {
        let Recipe { trials, units, heldout, .. } = *self;
        if trials == 0 || units == 0 {
            return Err(RecipeError::Empty { trials, units });
        }
        if heldout >= units {
            return Err(RecipeError::Heldout { units, heldout });
        }
        Ok(())
    }
}

/// Simulates a session: units, trials in the splits `train`, `val` and `test` (3:1:1, interleaved), and the series `hand_pos`
/// and `hand_vel` at 1 kHz. A recipe that fails [`Recipe::check`] still gives a session, which may lack trials,
/// units or held-in units.
pub fn simulate(recipe: &Recipe) -> Session {
    let planned = reaches::planned(recipe.trials, recipe.seed);
    let courses: Vec<Course> = planned.iter().map(PlannedTrial::course).collect();
    let mut units = population::units(recipe.units, recipe.seed, &courses);
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.shuffle(&mut generator(recipe.seed, HELDOUT_STREAM));
    for &unit in order.iter().take(recipe.heldout) {
        units[unit].heldout = true;
    }
    let Recipe { trials, seed, .. } = recipe;
    Session {
        identifier: format!("simulated-{trials}-trials-{}-units-seed-{seed}", recipe.units),
        units,
        observed: planned.iter().map(PlannedTrial::interval).collect(),
        trials: planned.iter().enumerate().map(|(id, trial)| trial.trial(id)).collect(),
        behavior: hand(&planned),
        source: Default::default(),
    }
}

/// Returns the rates from which [`simulate`] draws its spikes, and which no real recording has. For each unit: spikes/s at
/// every millisecond of all trials, one trial after the other.
pub fn rates(recipe: &Recipe) -> Vec<Vec<f64>> {
    let planned = reaches::planned(recipe.trials, recipe.seed);
    let courses: Vec<Course> = planned.iter().map(PlannedTrial::course).collect();
    population::rates(recipe.units, recipe.seed, &courses)
}

/// `hand_pos` and `hand_vel` of all trials. Between trials there are no samples, as in the benchmark's files.
fn hand(planned: &[PlannedTrial]) -> Vec<Series> {
    let (mut timestamps, mut position, mut velocity) = (Vec::new(), Vec::new(), Vec::new());
    for (time_s, at, speed) in planned.iter().flat_map(PlannedTrial::hand) {
        timestamps.push(time_s);
        position.extend(at);
        velocity.extend(speed);
    }
    let series = |name: &str, unit: &str, data| {
        let timestamps = timestamps.clone();
        Series {
            name: name.to_owned(),
            unit: unit.to_owned(),
            converted_from: None,
            dims: 2,
            timestamps,
            data,
        }
    };
    vec![series("hand_pos", "m", position), series("hand_vel", "m/s", velocity)]
}

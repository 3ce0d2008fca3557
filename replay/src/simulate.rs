//! A session that never happened: delayed reaches and a motor population, from a seed.
//!
//! The task is that of the benchmark's maze sessions: a target appears, a go cue comes after a random
//! delay, the hand leaves the centre (`reach`) and a population fires (`population`). Trials start on
//! multiples of 100 ms with at least 50 ms between them, and the units are observed inside trials only.
//! **The same recipe gives the same session**; a trial's course does not depend on the number of units, nor
//! a unit's tuning on the number of trials.

use crate::population::{self, Course, population};
use crate::reach::Reach;
use crate::session::{Interval, Series, Session, Trial, Value};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// Directions of the targets, and mazes: each has a straight version and one with a barrier.
const MAZES: usize = 8;

/// Distance from the centre to a target, m.
const DISTANCE_M: f64 = 0.11;

/// Streams of random numbers that do not disturb each other.
const TRIALS_STREAM: u64 = 1;
const MAZES_STREAM: u64 = 2;
const HELDOUT_STREAM: u64 = 3;

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Trials; one lasts about 1.7 s.
    pub trials: usize,
    /// Units, held-out ones included.
    pub units: usize,
    /// Held-out units, chosen by the seed.
    pub heldout: usize,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Default for Recipe {
    /// The size of the benchmark's small training set.
    fn default() -> Self {
        Recipe { trials: 200, units: 142, heldout: 35, seed: 1 }
    }
}

/// Why a recipe cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// A recording of nothing.
    #[error("expected at least one trial and one unit, found {trials} trials and {units} units")]
    Empty {
        /// Trials of the recipe.
        trials: usize,
        /// Units of the recipe.
        units: usize,
    },
    /// No unit would be left to show.
    #[error("expected fewer held-out units than the {units} units, found {heldout}")]
    Heldout {
        /// Units of the recipe.
        units: usize,
        /// Held-out units of the recipe.
        heldout: usize,
    },
}

impl Recipe {
    /// Whether the recipe gives a session that can be used.
    ///
    /// # Errors
    /// [`RecipeError`] without trials or units, or when every unit is held out.
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

/// Simulates a session: units, trials in the splits `train`, `val` and `test` (3:1:1, interleaved),
/// `hand_pos` and `hand_vel` at 1 kHz. Of a recipe that fails [`Recipe::check`], what there is of it.
pub fn simulate(recipe: &Recipe) -> Session {
    let plans = plans(recipe);
    let courses: Vec<Course> = plans.iter().map(Plan::course).collect();
    let mut units = population(recipe.units, recipe.seed, &courses);
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.shuffle(&mut generator(recipe.seed, HELDOUT_STREAM));
    for &unit in order.iter().take(recipe.heldout) {
        units[unit].heldout = true;
    }
    let Recipe { trials, seed, .. } = recipe;
    Session {
        identifier: format!("simulated-{trials}-trials-{}-units-seed-{seed}", recipe.units),
        units,
        observed: plans.iter().map(Plan::interval).collect(),
        trials: plans.iter().enumerate().map(|(id, plan)| plan.trial(id)).collect(),
        behavior: hand(&plans),
    }
}

/// The rates behind the spikes of [`simulate`], which no recording has: of each unit, spikes/s at every millisecond of all
/// trials, one trial after the other.
pub fn rates(recipe: &Recipe) -> Vec<Vec<f64>> {
    let plans = plans(recipe);
    let courses: Vec<Course> = plans.iter().map(Plan::course).collect();
    population::rates(recipe.units, recipe.seed, &courses)
}

/// The generator of one purpose.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

/// A trial as it will go, in whole milliseconds of the session.
struct Plan {
    start_ms: u64,
    target_on_ms: u64,
    go_cue_ms: u64,
    stop_ms: u64,
    maze: usize,
    has_barrier: bool,
    /// Movement onset and all that follows; its times count from the trial's start.
    reach: Reach,
    onset_ms: u64,
    /// Direction of the target, radians.
    direction: f64,
}

/// How the hand goes round a maze's barrier.
struct Detour {
    /// Sideways offset as a part of the distance; its sign is the side.
    offset: f64,
    /// When the hand passes it, as a part of the movement.
    passed_at: f64,
}

fn plans(recipe: &Recipe) -> Vec<Plan> {
    let mut mazes = generator(recipe.seed, MAZES_STREAM);
    let detour = |_| {
        let side = if mazes.random_bool(0.5) { 1.0 } else { -1.0 };
        Detour { offset: side * mazes.random_range(0.4..0.7), passed_at: mazes.random_range(0.4..0.6) }
    };
    let detours: Vec<Detour> = (0..MAZES).map(detour).collect();

    let mut random = generator(recipe.seed, TRIALS_STREAM);
    let mut conditions: Vec<usize> = Vec::new();
    let mut plans: Vec<Plan> = Vec::new();
    for _ in 0..recipe.trials {
        if conditions.is_empty() {
            // Every condition once, in a new order: splits and conditions stay balanced.
            conditions = (0..MAZES * 2).collect();
            conditions.shuffle(&mut random);
        }
        let condition = conditions.pop().unwrap_or_default();
        let free_ms = plans.last().map_or(0, |last| last.stop_ms + 50);
        plans.push(plan(&mut random, free_ms.div_ceil(100) * 100, condition, &detours));
    }
    plans
}

fn plan(random: &mut ChaCha8Rng, start_ms: u64, condition: usize, detours: &[Detour]) -> Plan {
    let (maze, has_barrier) = (condition / 2, condition % 2 == 1);
    let target_on_ms = start_ms + random.random_range(100..=200);
    let go_cue_ms = target_on_ms + random.random_range(150..=500);
    let reaction_ms = (290.0 + 45.0 * random.sample::<f64, _>(StandardNormal)).clamp(200.0, 450.0);
    let onset_ms = go_cue_ms + reaction_ms.round() as u64;
    let slowness = if has_barrier { 1.25 } else { 1.0 };
    let duration_ms = (slowness * random.random_range(450.0..650.0f64)).round();
    let stop_ms = onset_ms + duration_ms as u64 + random.random_range(250..=350);

    let direction = maze as f64 / MAZES as f64 * TAU;
    let mut scatter = |sd: f64| sd * random.sample::<f64, _>(StandardNormal);
    let start = [scatter(0.003), scatter(0.003)];
    let target =
        [DISTANCE_M * direction.cos() + scatter(0.005), DISTANCE_M * direction.sin() + scatter(0.005)];
    let detour = &detours[maze];
    let via = has_barrier.then(|| (detour.offset * (1.0 + scatter(0.1)) * DISTANCE_M, detour.passed_at));
    let onset_s = (onset_ms - start_ms) as f64 / 1e3;
    let reach = Reach::new(onset_s, duration_ms / 1e3, start, target, via);
    Plan { start_ms, target_on_ms, go_cue_ms, stop_ms, maze, has_barrier, reach, onset_ms, direction }
}

impl Plan {
    fn interval(&self) -> Interval {
        Interval { start: seconds(self.start_ms), stop: seconds(self.stop_ms) }
    }

    fn course(&self) -> Course<'_> {
        Course {
            start_ms: self.start_ms,
            length_ms: (self.stop_ms - self.start_ms) as usize,
            target_on_s: seconds(self.target_on_ms - self.start_ms),
            direction: self.direction,
            reach: &self.reach,
        }
    }

    fn trial(&self, id: usize) -> Trial {
        let time = |ms: u64| Value::Float(seconds(ms));
        let columns = BTreeMap::from(
            [
                ("target_on_time", time(self.target_on_ms)),
                ("go_cue_time", time(self.go_cue_ms)),
                ("move_onset_time", time(self.onset_ms)),
                ("delay", Value::Float((self.go_cue_ms - self.target_on_ms) as f64)),
                ("rt", Value::Float((self.onset_ms - self.go_cue_ms) as f64)),
                ("trial_type", Value::Int(self.maze as i64)),
                ("trial_version", Value::Int(i64::from(self.has_barrier))),
                ("maze_id", Value::Int(100 + self.maze as i64)),
                ("success", Value::Bool(true)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let split = ["train", "train", "val", "train", "test"][id % 5];
        Trial { id: id as i64, interval: self.interval(), split: Some(split.to_owned()), columns }
    }
}

/// `hand_pos` and `hand_vel` of all trials; between trials there are no samples, as in the benchmark's files.
fn hand(plans: &[Plan]) -> Vec<Series> {
    let (mut timestamps, mut position, mut velocity) = (Vec::new(), Vec::new(), Vec::new());
    for plan in plans {
        for ms in 0..plan.stop_ms - plan.start_ms {
            timestamps.push(seconds(plan.start_ms + ms));
            position.extend(plan.reach.position(seconds(ms)));
            velocity.extend(plan.reach.velocity(seconds(ms)));
        }
    }
    let series = |name: &str, unit: &str, data| {
        let timestamps = timestamps.clone();
        Series { name: name.to_owned(), unit: unit.to_owned(), dims: 2, timestamps, data }
    };
    vec![series("hand_pos", "m", position), series("hand_vel", "m/s", velocity)]
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

//! What a sweep file asks for: recordings, a space of configurations, and the runs that follow from them.
//!
//! **The points and their order follow from the file alone, and a run's name follows from everything that determines
//! the fit**: the keys of the configuration that are set, seed, bin width, the bytes of the recordings, and the version of the
//! program, which completes the configuration. A value that is added to the file adds runs, and the existing runs keep their
//! names.

use crate::config::{Config, ConfigFile};
use crate::recipe::Recipe;
use crate::sweep::space::{self, Values};
use ndt_protocol::bundle::{self, BundleError};
use ndt_replay::nwb::UnitOptions;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Largest number of runs of a sweep.
pub const RUNS_MAX: usize = 10_000;

/// Number of draws for each point that is asked for: in a space of few points most draws repeat an earlier one.
const DRAWS_A_POINT: usize = 100;

const KEYS: [&str; 16] = [
    "data",
    "where",
    "unit-id",
    "held-out",
    "held-out-seed",
    "same-units",
    "bin-ms",
    "units",
    "preset",
    "out",
    "search",
    "points",
    "seed",
    "seeds",
    "base",
    "space",
];

/// A sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Absolute paths of the recordings, which have the same units.
    pub data: Vec<PathBuf>,
    /// Width of a bin, ms; `None` for the configuration's.
    pub bin_ms: Option<f64>,
    /// Units that are taken of the recordings.
    pub selected: UnitOptions,
    /// Further options of each fit: `--units`, `--preset` and those that select units, where the sweep file has these keys.
    pub options: Vec<String>,
    /// Absolute path of the folder of results.
    pub out: PathBuf,
    /// The configuration keys that vary.
    pub keys: Vec<String>,
    /// The values of the keys at each point, in the order of `keys`.
    pub points: Vec<Vec<Value>>,
    /// One fit for each seed and point, ordered by seed and then by point.
    pub runs: Vec<Run>,
}

/// One fit of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Name of the run and of its folder: 12 hexadecimal digits that no other fit has.
    pub name: String,
    /// Index of the run's point among the plan's points.
    pub point: usize,
    /// Random seed of the fit.
    pub seed: u64,
    /// The keys of the configuration that the sweep file or the point sets, and the seed. What they leave open follows from the
    /// data, as in every fit ([`crate::recipe`]).
    pub choices: Table,
}

/// Why a sweep file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Path of the sweep file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The contents of the file have problems.
    #[error("{path}: {}", .problems.join("; "))]
    Check {
        /// Path of the sweep file.
        path: PathBuf,
        /// All problems.
        problems: Vec<String>,
    },
    /// A recording cannot be read.
    #[error(transparent)]
    Data(#[from] BundleError),
}

/// The values of a sweep file, with paths as they stand there.
struct Request {
    data: Vec<PathBuf>,
    selected: UnitOptions,
    bin_ms: Option<f64>,
    options: Vec<String>,
    out: PathBuf,
    /// Number of points of a random search; `None` for a grid.
    points: Option<usize>,
    seed: u64,
    seeds: Vec<u64>,
    base: Table,
    space: BTreeMap<String, Values>,
}

impl Plan {
    /// Reads a sweep file, and the digest of the recordings that it names.
    ///
    /// # Errors
    /// [`PlanError`] with all problems of the file, or for a recording that cannot be read.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let io = |error| PlanError::Io { path: path.to_owned(), error };
        let check = |problems| PlanError::Check { path: path.to_owned(), problems };
        let text = std::fs::read_to_string(path).map_err(io)?;
        let table: Table = toml::from_str(&text)
            .map_err(|error| check(vec![format!("expected TOML, found {}", one_line(error.message()))]))?;
        let folder = std::path::absolute(path).map_err(io)?;
        let folder = folder.parent().unwrap_or(Path::new("/")).to_owned();
        let mut problems = Vec::new();
        let request = request(&table, &mut problems);
        let data: Vec<PathBuf> = request.data.iter().map(|path| folder.join(path)).collect();
        for path in data.iter().filter(|path| !path.is_file()) {
            problems.push(format!("data: expected a recording at {}, found none", path.display()));
        }
        let points = if problems.is_empty() { points(&request, &mut problems) } else { Vec::new() };
        if !problems.is_empty() {
            return Err(check(problems));
        }
        let digest = bundle::digest_files(&data)?;
        let mut runs = Vec::new();
        for seed in &request.seeds {
            for (point, (_, choices)) in points.iter().enumerate() {
                let mut choices = choices.clone();
                // A seed is a whole number that TOML can hold: that was checked with the list of seeds.
                let _ = set(&mut choices, "optimiser.seed", Value::Integer(*seed as i64));
                let name = name(&choices, request.bin_ms, &request.options, &digest);
                runs.push(Run { name, point, seed: *seed, choices });
            }
        }
        let keys = request.space.keys().cloned().collect();
        let points = points.into_iter().map(|(values, _)| values).collect();
        let Request { selected, bin_ms, options, out, .. } = request;
        Ok(Plan { data, selected, bin_ms, options, out: folder.join(out), keys, points, runs })
    }
}

/// The name of a fit, which no other fit has.
fn name(choices: &Table, bin_ms: Option<f64>, options: &[String], data: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let text =
        format!("{choices}\nbin-ms = {bin_ms:?}\noptions = {options:?}\ndata = {data}\nby = {version}\n");
    bundle::sha256(text.as_bytes())[..12].to_owned()
}

/// Reads the keys that select units.
fn selected(table: &Table, problems: &mut Vec<String>) -> UnitOptions {
    let conditions: Vec<String> =
        take(table, "where", "a list such as [\"location=M1\"]", problems).unwrap_or_default();
    let mut parsed = Vec::new();
    for condition in conditions {
        match condition.parse() {
            Ok(condition) => parsed.push(condition),
            Err(error) => problems.push(format!("where: {error}")),
        }
    }
    let held_out: Option<String> = match table.get("held-out") {
        Some(Value::Float(part)) => Some(part.to_string()),
        _ => take(table, "held-out", "none or a fraction", problems),
    };
    let held_out = held_out.and_then(|text| match text.parse() {
        Ok(held_out) => Some(held_out),
        Err(error) => {
            problems.push(format!("held-out: {error}"));
            None
        }
    });
    UnitOptions {
        conditions: parsed,
        unit_id: take(table, "unit-id", "the name of a column", problems),
        held_out,
        held_out_seed: take(table, "held-out-seed", "a whole number", problems).unwrap_or_default(),
        same_units: take(table, "same-units", "true or false", problems).unwrap_or_default(),
    }
}

/// Reads the keys of a sweep file, and adds what is wrong with them to `problems`.
fn request(table: &Table, problems: &mut Vec<String>) -> Request {
    for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        problems.push(format!("expected one of {}, found {key}", KEYS.join(", ")));
    }
    let data: Vec<PathBuf> = take(table, "data", "paths of recordings", problems).unwrap_or_default();
    if table.get("data").is_none_or(|data| data.as_array().is_some_and(Vec::is_empty)) {
        problems.push("data: expected paths of recordings, found none".to_owned());
    }
    let bin_ms: Option<f64> = take(table, "bin-ms", "a number", problems);
    if let Some(bin_ms) = bin_ms.filter(|bin_ms| !(*bin_ms > 0.0 && *bin_ms <= 1000.0)) {
        problems.push(format!("bin-ms: expected a width above 0 and up to 1000, found {bin_ms}"));
    }
    let search = take(table, "search", "grid or random", problems).unwrap_or_else(|| "grid".to_owned());
    let count: Option<usize> = take(table, "points", "a whole number", problems);
    match (search.as_str(), count) {
        ("random", None | Some(0)) => problems.push("points: expected how many for search random".to_owned()),
        ("grid", Some(_)) => problems.push("points: expected none for search grid, found some".to_owned()),
        ("grid" | "random", _) => {}
        _ => problems.push(format!("search: expected grid or random, found {search}")),
    }
    let mut tables = |key: &str| take::<Table>(table, key, "a table", problems).unwrap_or_default();
    let (base, space) = (tables("base"), tables("space"));
    let config = config(&base, problems);
    let seeds: Vec<u64> = take(table, "seeds", "a list of whole numbers", problems)
        .unwrap_or_else(|| vec![config.optimiser.seed]);
    let options =
        [("units", "--units", ["held-in", "heldin", "all"].as_slice()), ("preset", "--preset", &["ndt"])];
    let options = options.into_iter().flat_map(|(key, option, words)| {
        let found: Option<String> = take(table, key, "a word", problems);
        if let Some(found) = found.as_deref().filter(|found| !words.contains(found)) {
            problems.push(format!("{key}: expected {}, found {found}", words.join(" or ")));
        }
        found.into_iter().flat_map(|found| [option.to_owned(), found])
    });
    let mut options: Vec<String> = options.collect();
    let selected = selected(table, problems);
    options.extend(selected.arguments());
    if seeds.is_empty() || seeds.iter().collect::<BTreeSet<_>>().len() < seeds.len() {
        problems.push(format!("seeds: expected different seeds, at least one, found {seeds:?}"));
    }
    Request {
        data,
        selected,
        bin_ms,
        options,
        out: take(table, "out", "a path", problems).unwrap_or_else(|| "sweep".into()),
        points: (search == "random").then_some(count.unwrap_or(1)),
        seed: take(table, "seed", "a whole number", problems).unwrap_or(1),
        seeds,
        space: space_of(&space, search == "grid", problems),
        base,
    }
}

/// The value of a key as a `T`; a value of another type is a problem.
fn take<T: serde::de::DeserializeOwned>(
    table: &Table,
    key: &str,
    expected: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    let value = table.get(key)?;
    let taken = value.clone().try_into();
    if taken.is_err() {
        problems.push(format!("{key}: expected {expected}, found {value}"));
    }
    taken.ok()
}

/// The configuration that all points share. Each key is tried by itself, so that all problems are found.
fn config(base: &Table, problems: &mut Vec<String>) -> Config {
    let before = problems.len();
    for (key, value) in space::leaves(base) {
        try_alone(&format!("base.{key}"), &key, &value, problems);
    }
    if problems.len() > before {
        return Config::default();
    }
    Value::Table(base.clone()).try_into().unwrap_or_default()
}

/// Tries a configuration in which only this key is set, and adds what is wrong to `problems`.
fn try_alone(place: &str, key: &str, value: &Value, problems: &mut Vec<String>) {
    let mut alone = Table::new();
    let Err(problem) = set(&mut alone, key, value.clone()).and_then(|()| build(alone)) else { return };
    problems.push(format!("{place}: {problem}"));
}

fn build(table: Table) -> Result<Config, String> {
    Value::Table(table).try_into().map_err(|error: toml::de::Error| one_line(error.message()))
}

/// The keys that a table sets, with their values as the configuration's types spell them.
fn in_one_spelling(table: Table) -> Result<Table, String> {
    let whole = build(table.clone())?.table().map_err(|error| error.to_string())?;
    Ok(only(&whole, &table))
}

/// The values of `whole` at the keys of `set`, table by table.
fn only(whole: &Table, set: &Table) -> Table {
    let value = |(key, set): (&String, &Value)| match (whole.get(key)?, set) {
        (Value::Table(whole), Value::Table(set)) => Some((key.clone(), Value::Table(only(whole, set)))),
        (value, _) => Some((key.clone(), value.clone())),
    };
    set.iter().filter_map(value).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The values of each key of the space. Each value is tried by itself, so that all problems are found.
fn space_of(space: &Table, is_grid: bool, problems: &mut Vec<String>) -> BTreeMap<String, Values> {
    let defaults = Value::try_from(Config::default()).unwrap_or(Value::Boolean(false));
    let default = |key: &str| key.split('.').try_fold(&defaults, |value, part| value.get(part)).cloned();
    let before = problems.len();
    let found = space::read(space, &default, problems);
    if found.is_empty() && problems.len() == before {
        problems.push("space: expected keys that vary, found none".to_owned());
    }
    for (key, values) in &found {
        let place = format!("space.{key}");
        if key == "optimiser.seed" {
            problems.push(format!("{place}: expected seeds under seeds"));
        }
        match values {
            Values::List(values) => {
                values.iter().for_each(|value| try_alone(&place, key, value, problems));
            }
            Values::Range(range) => {
                let low = if range.is_integer { (range.low as i64).into() } else { range.low.into() };
                try_alone(&place, key, &low, problems);
                if is_grid && range.step.is_none() {
                    problems
                        .push(format!("{place}: expected a list, or a range with a step, for search grid"));
                }
            }
        }
    }
    found
}

/// The points: the values of the keys that vary, and all keys that are set, in one spelling of their values (`1` is `1.0`).
fn points(request: &Request, problems: &mut Vec<String>) -> Vec<(Vec<Value>, Table)> {
    let rows = match request.points {
        Some(count) => drawn(request, count),
        None => grid(request),
    };
    let Some(rows) = rows.filter(|rows| rows.len() * request.seeds.len() <= RUNS_MAX) else {
        problems.push(format!("expected at most {RUNS_MAX} runs, found more"));
        return Vec::new();
    };
    let mut points: Vec<(Vec<Value>, Table)> = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows {
        let mut table = request.base.clone();
        let set_all =
            request.space.keys().zip(&row).try_for_each(|(key, value)| set(&mut table, key, value.clone()));
        match set_all.and_then(|()| in_one_spelling(table)) {
            Ok(choices) => {
                let recipe = Recipe { config: Some(ConfigFile::of(choices.clone())), ..Recipe::default() };
                if let Err(error) = recipe.check() {
                    problems.extend(error.to_string().split("; ").map(str::to_owned));
                }
                if seen.insert(choices.to_string()) {
                    points.push((row, choices));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    // Most problems are common to many points.
    let mut told = BTreeSet::new();
    problems.retain(|problem| told.insert(problem.clone()));
    points
}

/// All combinations of values, in which the last key changes fastest; `None` if there are too many.
fn grid(request: &Request) -> Option<Vec<Vec<Value>>> {
    let mut rows = vec![Vec::new()];
    for values in request.space.values() {
        let values = values.all().unwrap_or_default();
        if rows.len() * values.len() > RUNS_MAX {
            return None;
        }
        let with = |row: &Vec<Value>, value: &Value| [row.as_slice(), std::slice::from_ref(value)].concat();
        rows = rows.iter().flat_map(|row| values.iter().map(move |value| with(row, value))).collect();
    }
    Some(rows)
}

/// Different random draws, each from a generator of its own, so that more points do not change the first ones. `None`
/// if there are too many.
fn drawn(request: &Request, count: usize) -> Option<Vec<Vec<Value>>> {
    if count > RUNS_MAX {
        return None;
    }
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut seen = BTreeSet::new();
    for draw in 0..count * DRAWS_A_POINT {
        if rows.len() == count {
            break;
        }
        let mut random = ChaCha8Rng::seed_from_u64(request.seed);
        random.set_stream(draw as u64);
        let row: Vec<Value> = request.space.values().filter_map(|values| values.draw(&mut random)).collect();
        if seen.insert(format!("{row:?}")) {
            rows.push(row);
        }
    }
    Some(rows)
}

/// Sets a dotted key of a table.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    match table.entry(first.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => set(inner, rest, value),
        other => Err(format!("expected a table at {first}, found {other}")),
    }
}

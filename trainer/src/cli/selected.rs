//! The options by which commands select time, units and a preset, and split recordings.

use clap::{Args, ValueEnum};
use ndt_trainer::config::{self, Selected};
use ndt_trainer::recipe;

/// Time and splits. Each option overrides the configuration's key of the same name in its table `data`.
#[derive(Args, Clone)]
pub struct SelectionOptions {
    /// Behaviour that is decoded: a series of any processing module or acquisition, columns of one as `NAME[0,1]` or `NAME[x,y]`, or the
    /// velocity computed from positions as velocity(NAME). Given several times, all side by side [default: hand_vel; else the first
    /// series called velocity or ..._vel; else the velocity computed from hand_pos, position or ..._pos; else EMG; else force].
    #[arg(long, value_name = "NAME")]
    behavior: Vec<String>,
    /// Time that is fitted and scored [default: auto: observed time where there are fewer than 5 trials, or trials follow each other
    /// directly or across observed time; else trials].
    #[arg(long, value_enum)]
    time: Option<Time>,
    /// How the recording is split [default: by the column where a trial is in train or val, else into blocks of time].
    #[arg(long, value_enum)]
    split_by: Option<SplitBy>,
    /// Column of the trial table that says to which part a trial belongs [default: split].
    #[arg(long, value_name = "COLUMN")]
    split_column: Option<String>,
    /// Values in the column of the trials to fit, separated by commas [default: train].
    #[arg(long, value_name = "VALUES")]
    train: Option<String>,
    /// Values in the column of the trials to validate on, separated by commas [default: val].
    #[arg(long, value_name = "VALUES")]
    val: Option<String>,
    /// Values in the column of the trials to test on, separated by commas [default: test].
    #[arg(long, value_name = "VALUES")]
    test: Option<String>,
    /// Fractions for training, validation and test where no column says it [default: 0.7,0.15,0.15].
    #[arg(long, value_delimiter = ',', value_name = "FRACTIONS")]
    blocks: Option<Vec<f64>>,
    /// Column with the condition of a trial, each of which a split by trials spreads evenly.
    #[arg(long, value_name = "COLUMN")]
    condition_column: Option<String>,
}

/// The time of a recording that is used.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Time {
    /// Whichever the recording is made for.
    Auto,
    /// Trials alone.
    Trials,
    /// All time in which the units were observed.
    Observed,
}

/// How a recording is split.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SplitBy {
    /// By the column where a trial has a value in it, else into blocks.
    Auto,
    /// By a column of the trial table.
    Column,
    /// Into contiguous blocks of time, with the model's reach between them.
    Blocks,
    /// By trials, the conditions spread evenly.
    Trials,
}

impl SelectionOptions {
    /// The choices as the library takes them.
    pub fn selected(&self) -> Selected {
        let options = self.clone();
        Selected {
            behavior: (!options.behavior.is_empty()).then_some(options.behavior),
            time: options.time.map(|time| match time {
                Time::Auto => config::Time::Auto,
                Time::Trials => config::Time::Trials,
                Time::Observed => config::Time::Observed,
            }),
            split_by: options.split_by.map(|by| match by {
                SplitBy::Auto => config::SplitBy::Auto,
                SplitBy::Column => config::SplitBy::Column,
                SplitBy::Blocks => config::SplitBy::Blocks,
                SplitBy::Trials => config::SplitBy::Trials,
            }),
            split_column: options.split_column,
            train: options.train,
            val: options.val,
            test: options.test,
            blocks: options.blocks,
            condition_column: options.condition_column,
        }
    }
}

/// A named preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    Ndt,
}

impl Preset {
    /// The preset as the library names it.
    pub fn of_library(self) -> recipe::Preset {
        match self {
            Preset::Ndt => recipe::Preset::Ndt,
        }
    }
}

/// Units whose spikes are inputs of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Units {
    /// All units except those that the recording marks as held out.
    #[value(name = "held-in", alias = "heldin")]
    Heldin,
    /// All units.
    All,
}

impl Units {
    /// The units as the configuration names them.
    pub fn of_library(self) -> config::Units {
        match self {
            Units::Heldin => config::Units::Heldin,
            Units::All => config::Units::All,
        }
    }
}

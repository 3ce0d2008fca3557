//! The table `data` of the configuration: bins, units, the time that is used, and how it is split.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a recording the model takes in, and how the recording is split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Data {
    /// Width of a bin, ms.
    pub bin_ms: f64,
    /// Units whose spikes are inputs of the model.
    pub units: Units,
    /// Behaviour that is decoded: series of any processing module or acquisition, several side by side; columns of one as `NAME[0,1]` or
    /// `NAME[x,y]`, the velocity that is computed from positions as `velocity(NAME)`. Empty: hand_vel, else the first series that is
    /// called velocity or ..._vel, else the velocity computed from hand_pos, position or ..._pos, else EMG, else force.
    pub behavior: Vec<String>,
    /// Time that is fitted and scored: `trials`, all `observed` time, or `auto`. `auto` takes observed time where there are fewer than 5
    /// trials, or trials follow each other directly, or the time between them was observed; else trials.
    pub time: Time,
    /// How the recording is split: by a `column` of the trial table, into `blocks` of time, or by `trials`, the conditions spread
    /// evenly. `auto` splits by the column where a trial has a value in it, else into blocks.
    pub split_by: SplitBy,
    /// Column of the trial table that says to which part a trial belongs.
    pub split_column: String,
    /// Values in the column of the trials to fit, separated by commas.
    pub train: String,
    /// Values in the column of the trials to validate on, separated by commas.
    pub val: String,
    /// Values in the column of the trials to test on, separated by commas.
    pub test: String,
    /// Fractions of the time, or of the trials, for training, validation and test where no column says it.
    pub blocks: Vec<f64>,
    /// Column of the trial table with the condition that a split by trials spreads evenly; empty for none.
    pub condition_column: String,
}

/// Units whose spikes are inputs of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// All units except those that the recording marks as held out.
    #[serde(rename = "held-in", alias = "heldin")]
    Heldin,
    /// All units.
    All,
}

/// The time of a recording that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Time {
    /// Whichever the recording is made for.
    Auto,
    /// Trials alone.
    Trials,
    /// All time in which the units were observed.
    Observed,
}

/// How a recording is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// By the column where a trial has a value in it, else into blocks.
    Auto,
    /// By a column of the trial table.
    Column,
    /// Into contiguous blocks of time.
    Blocks,
    /// By trials, the conditions spread evenly.
    Trials,
}

/// Choices of time and splits that override those of a configuration; `None` for those that are left to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selected {
    /// Overrides [`Data::behavior`].
    pub behavior: Option<Vec<String>>,
    /// Overrides [`Data::time`].
    pub time: Option<Time>,
    /// Overrides [`Data::split_by`].
    pub split_by: Option<SplitBy>,
    /// Overrides [`Data::split_column`], and splits by it.
    pub split_column: Option<String>,
    /// Overrides [`Data::train`], and splits by the column.
    pub train: Option<String>,
    /// Overrides [`Data::val`], and splits by the column.
    pub val: Option<String>,
    /// Overrides [`Data::test`], and splits by the column.
    pub test: Option<String>,
    /// Overrides [`Data::blocks`], and splits into blocks.
    pub blocks: Option<Vec<f64>>,
    /// Overrides [`Data::condition_column`], and splits by trials.
    pub condition_column: Option<String>,
}

impl Selected {
    /// Writes the choices over those of a configuration. How to split follows from what is chosen, where that is not said.
    pub fn over(&self, data: &mut Data) {
        let Selected { behavior, time, split_by, split_column, train, val, test, blocks, condition_column } =
            self.clone();
        let implied = if split_column.is_some() || train.is_some() || val.is_some() || test.is_some() {
            Some(SplitBy::Column)
        } else if condition_column.is_some() {
            Some(SplitBy::Trials)
        } else {
            blocks.as_ref().map(|_| SplitBy::Blocks)
        };
        if let Some(behavior) = behavior {
            data.behavior = behavior;
        }
        data.time = time.unwrap_or(data.time);
        data.split_by = split_by.or(implied).unwrap_or(data.split_by);
        for (to, chosen) in [
            (&mut data.split_column, split_column),
            (&mut data.train, train),
            (&mut data.val, val),
            (&mut data.test, test),
            (&mut data.condition_column, condition_column),
        ] {
            if let Some(chosen) = chosen {
                *to = chosen;
            }
        }
        if let Some(blocks) = blocks {
            data.blocks = blocks;
        }
    }
}

impl Default for Data {
    fn default() -> Self {
        Data {
            bin_ms: 20.0,
            units: Units::Heldin,
            behavior: Vec::new(),
            time: Time::Auto,
            split_by: SplitBy::Auto,
            split_column: "split".to_owned(),
            train: "train".to_owned(),
            val: "val".to_owned(),
            test: "test".to_owned(),
            blocks: vec![0.7, 0.15, 0.15],
            condition_column: String::new(),
        }
    }
}

impl Data {
    /// The options of a command line that select the same behaviour, time and splits: those that differ from the defaults.
    pub fn arguments(&self) -> Vec<String> {
        let tables = [self, &Data::default()].map(|data| toml::Table::try_from(data).unwrap_or_default());
        let [chosen, usual] = &tables;
        let is_option = |key: &str| !["bin-ms", "units"].contains(&key);
        let mut arguments = Vec::new();
        for (key, value) in
            chosen.iter().filter(|(key, value)| is_option(key) && usual.get(*key) != Some(*value))
        {
            let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let values: Vec<String> =
                value.as_array().map_or_else(|| vec![text(value)], |all| all.iter().map(text).collect());
            match key.as_str() {
                "behavior" => arguments.extend(values.iter().map(|name| format!("--behavior={name}"))),
                _ => arguments.push(format!("--{key}={}", values.join(","))),
            }
        }
        // Options imply how to split, unless that is said.
        if !arguments.is_empty() && self.split_by == Data::default().split_by {
            arguments.extend(
                chosen.get("split-by").and_then(toml::Value::as_str).map(|by| format!("--split-by={by}")),
            );
        }
        arguments
    }

    /// What is wrong with the fractions of the split.
    pub(super) fn problems(&self) -> Vec<String> {
        let sum: f64 = self.blocks.iter().sum();
        let is_whole =
            self.blocks.len() == 3 && self.blocks.iter().take(2).all(|part| *part > 0.0) && sum <= 1.0 + 1e-9;
        let problem = || {
            format!(
                "expected data.blocks to be three fractions that sum to at most 1, with some training and validation, found {:?}",
                self.blocks
            )
        };
        if is_whole { Vec::new() } else { vec![problem()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_defaults_is_an_option_of_a_command_line() {
        assert_eq!(Data { bin_ms: 5.0, units: Units::All, ..Data::default() }.arguments(), [""; 0]);
        let data = Data {
            behavior: vec!["velocity(cursor)".to_owned(), "EMG[0,1]".to_owned()],
            time: Time::Trials,
            blocks: vec![0.5, 0.25, 0.25],
            ..Data::default()
        };
        let expected = [
            "--behavior=velocity(cursor)",
            "--behavior=EMG[0,1]",
            "--blocks=0.5,0.25,0.25",
            "--time=trials",
            "--split-by=auto",
        ];
        let mut found = data.arguments();
        found.sort_by_key(|argument| expected.iter().position(|expected| expected == argument));
        assert_eq!(found, expected);
        let by_condition =
            Data { split_by: SplitBy::Trials, condition_column: "maze_id".to_owned(), ..Data::default() };
        let mut found = by_condition.arguments();
        found.sort();
        assert_eq!(found, ["--condition-column=maze_id", "--split-by=trials"]);
    }
}

//! The windows of a data set: those of the benchmark's four MC_Maze sets, or any others.

/// Names of the benchmark's data sets.
pub const NAMES: [&str; 4] = ["mc_maze", "mc_maze_large", "mc_maze_medium", "mc_maze_small"];

/// Held-in units, held-out units, and trials of `train` and `val` together, in each of the benchmark's data sets.
const PUBLISHED: [(&str, [usize; 3]); 4] = [
    ("mc_maze", [137, 45, 2295]),
    ("mc_maze_large", [122, 40, 500]),
    ("mc_maze_medium", [114, 38, 250]),
    ("mc_maze_small", [107, 35, 100]),
];

/// The windows to cut out of a recording. Times are in ms from the trial's alignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Name of the data set, and of its group in HDF5 files.
    pub name: String,
    /// Column of the trial table whose instants the windows are aligned to.
    pub align: String,
    /// Start of the window.
    pub from_ms: i64,
    /// End of the window.
    pub to_ms: i64,
    /// Length of the window of forward prediction, which follows the window; 0 for no forward prediction.
    pub forward_ms: i64,
    /// Behaviour series that is decoded.
    pub behavior: String,
    /// Lag from a bin's spikes to the behaviour that is decoded from them.
    pub lag_ms: i64,
    /// Columns of the trial table that define a condition.
    pub conditions: Vec<String>,
    /// Standard deviation of the Gaussian that smooths PSTHs.
    pub psth_sd_ms: f64,
}

impl Variant {
    /// The windows of one of [`NAMES`]. Any other name gets the windows of the benchmark's smaller MC_Maze sets, which
    /// the caller then changes.
    pub fn named(name: &str) -> Variant {
        let (lag_ms, psth_sd_ms) = if name == "mc_maze" { (100, 70.0) } else { (120, 50.0) };
        Variant {
            name: name.to_owned(),
            align: "move_onset_time".to_owned(),
            from_ms: -250,
            to_ms: 450,
            forward_ms: 200,
            behavior: "hand_vel".to_owned(),
            lag_ms,
            conditions: vec!["trial_type".to_owned(), "trial_version".to_owned()],
            psth_sd_ms,
        }
    }

    /// Returns what was seen if a recording with this many held-in units, held-out units and trials of `train` and `val` cannot be
    /// the benchmark's data set of this name; `None` for any other name.
    pub fn doubt(&self, found: [usize; 3]) -> Option<String> {
        let (_, expected) = PUBLISHED.iter().find(|(name, _)| *name == self.name)?;
        let text = |[heldin, heldout, trials]: [usize; 3]| {
            format!("{heldin} held-in and {heldout} held-out units and {trials} trials of train and val")
        };
        (found != *expected)
            .then(|| format!("{} has {}, and this recording has {}", self.name, text(*expected), text(found)))
    }

    /// Name of the group in HDF5 files: the data set's name, followed by the bin width unless it is 5 ms.
    pub fn group(&self, bin_ms: usize) -> String {
        if bin_ms == 5 { self.name.clone() } else { format!("{}_{bin_ms}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_recording_under_the_name_of_a_data_set_is_noticed() {
        let doubt = |name: &str, found| Variant::named(name).doubt(found);
        assert_eq!(doubt("mc_maze_small", [107, 35, 100]), None);
        assert_eq!(doubt("mine", [1, 2, 3]), None);
        let seen = doubt("mc_maze_small", [71, 24, 640]).unwrap();
        let expected = "mc_maze_small has 107 held-in and 35 held-out units and 100 trials of train and val, and this recording \
                        has 71 held-in and 24 held-out units and 640 trials of train and val";
        assert_eq!(seen, expected);
        assert!(NAMES.iter().all(|name| doubt(name, [0, 0, 0]).is_some()));
    }
}

//! Where the windows of a data set lie: the four MC_Maze sets as the benchmark defines them, or any other.

/// Names of the benchmark's sets.
pub const NAMES: [&str; 4] = ["mc_maze", "mc_maze_large", "mc_maze_medium", "mc_maze_small"];

/// What is cut out of a recording. Times are ms from the trial's alignment.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Name of the set, and of its group in HDF5 files.
    pub name: String,
    /// Trial column that windows are aligned to.
    pub align: String,
    /// First instant of the window.
    pub from_ms: i64,
    /// First instant after the window.
    pub to_ms: i64,
    /// Length of the window of forward prediction, which follows the window; 0 for none.
    pub forward_ms: i64,
    /// Behaviour series to decode.
    pub behavior: String,
    /// From a bin's spikes to the behaviour that is decoded from them.
    pub lag_ms: i64,
    /// Trial columns that make a condition.
    pub conditions: Vec<String>,
    /// Standard deviation of the Gaussian that PSTHs are smoothed with.
    pub psth_sd_ms: f64,
}

impl Variant {
    /// One of [`NAMES`]; another name gets the windows of the scaling sets, to be changed where they differ.
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

    /// Name of the group in HDF5 files: that of the set, with the width of the bins unless they are 5 ms.
    pub fn group(&self, bin_ms: usize) -> String {
        if bin_ms == 5 { self.name.clone() } else { format!("{}_{bin_ms}", self.name) }
    }
}

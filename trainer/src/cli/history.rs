//! The option `--history` of the commands that run a bundle over a recording.

use clap::ValueEnum;
use ndt_trainer::evaluation;

/// What comes before a trial.
#[derive(Clone, Copy, ValueEnum)]
pub enum History {
    /// Nothing: every trial starts cold, as after a segment flag.
    Cold,
    /// The trials before it, in one stream. A gap in the recording is a gap.
    Stream,
}

impl History {
    /// The choice as the library takes it.
    pub fn of_library(self) -> evaluation::History {
        match self {
            History::Cold => evaluation::History::Cold,
            History::Stream => evaluation::History::Stream,
        }
    }
}

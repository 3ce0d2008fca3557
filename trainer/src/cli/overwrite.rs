//! The option `--overwrite`, which every command that writes has, and the rule of [`ndt_protocol::destination`] behind it.

use clap::Args;
use ndt_protocol::destination::{Destination, DestinationError, Kind};
use std::path::{Path, PathBuf};

/// The option `--overwrite`.
#[derive(Args, Clone, Copy)]
pub struct Overwrite {
    /// Replace the output of an earlier run. Whatever is not of the kind that this command writes is refused all the same, and
    /// so is a path that is, contains or lies within an input.
    #[arg(long)]
    overwrite: bool,
}

impl Overwrite {
    /// Checks that the command may write something of this kind to `path`. `inputs` are all files and folders that it reads.
    ///
    /// # Errors
    /// [`DestinationError`].
    pub fn check<'a>(
        self,
        path: &Path,
        kind: Kind,
        inputs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<Destination, DestinationError> {
        Destination::check(path, kind, self.overwrite, inputs)
    }

    /// Whether the user gave the option.
    pub fn is_given(self) -> bool {
        self.overwrite
    }
}

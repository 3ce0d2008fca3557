//! `ndtd keygen`.

use super::print_line;
use clap::Args;
use ndt_protocol::zeromq::Library;
use ndt_protocol::zeromq::curve::KeyPair;
use std::path::PathBuf;

pub const HELP: &str = "\
Example: ndtd keygen /etc/ndtd/ndtd
writes /etc/ndtd/ndtd.key, which may be given to anybody, and /etc/ndtd/ndtd.key_secret, which only its owner can read. Both are
certificates as pyzmq's zmq.auth reads and writes them.";

#[derive(Args)]
pub struct Keygen {
    /// Name of the new files, without .key and .key_secret. Files that are there are never overwritten.
    name: PathBuf,
    /// Shared library libzmq [default: the one beside the executable, or else the system's].
    #[arg(long)]
    zeromq_library: Option<PathBuf>,
}

impl Keygen {
    pub fn execute(self) -> anyhow::Result<()> {
        let pair = KeyPair::generate(&Library::load(self.zeromq_library.as_deref())?)?;
        let [public, secret] = pair.write(&self.name)?;
        print_line(format_args!("public  {} {}", public.display(), pair.public))?;
        print_line(format_args!("secret  {}", secret.display()))
    }
}

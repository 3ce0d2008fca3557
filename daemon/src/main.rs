//! `ndtd`: decodes binned spikes in real time.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

//! The progress of a fit on standard error: a bar on a terminal, and otherwise a line after each tenth of the way.

use indicatif::{ProgressBar, ProgressStyle};
use ndt_trainer::training::Progress;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Instant;

/// The form of the progress.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressForm {
    /// A progress bar, or lines of text where standard error is no terminal.
    Text,
    /// One JSON line after each epoch, for programs.
    Json,
}

/// The progress of a fit.
pub struct FitProgress {
    bar: ProgressBar,
    is_terminal: bool,
    form: ProgressForm,
    started: Instant,
}

impl FitProgress {
    /// The progress of a fit that starts now.
    pub fn new(epochs: usize, form: ProgressForm) -> FitProgress {
        let bar = ProgressBar::new(epochs as u64);
        bar.set_style(style("epoch {pos}/{len} {bar:30} {msg}  {eta} left"));
        let is_terminal = form == ProgressForm::Text && std::io::stderr().is_terminal();
        FitProgress { bar, is_terminal, form, started: Instant::now() }
    }

    /// Shows the state after an epoch; never stops the fit.
    pub fn show(&self, progress: &Progress) -> ControlFlow<()> {
        if self.form == ProgressForm::Json {
            let line = serde_json::json!({
                "generation": progress.generation, "epoch": progress.epoch, "epochs": progress.epochs, "loss": progress.loss,
                "bits-per-spike": progress.scores.bits_per_spike, "velocity-r2": progress.scores.velocity_r2,
                "best": progress.best, "seconds": self.started.elapsed().as_secs_f64(),
            });
            eprintln!("{line}");
            return ControlFlow::Continue(());
        }
        let velocity = progress.scores.velocity_r2.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
        let line = format!(
            "loss {:.4}  bits/spike {:.4} (best {:.4}){velocity}",
            progress.loss, progress.scores.bits_per_spike, progress.best
        );
        let who = match progress.generation {
            0 => String::new(),
            generation => format!("teacher {generation}  "),
        };
        self.show_line(progress.epoch, progress.epochs, &who, &line)
    }

    /// Shows a line about an epoch of what `who` names; never stops the fit.
    pub fn show_line(&self, epoch: usize, epochs: usize, who: &str, line: &str) -> ControlFlow<()> {
        if self.is_terminal {
            self.bar.set_length(epochs as u64);
            self.bar.set_position(epoch as u64);
            self.bar.set_message(format!("{who}{line}"));
        } else if epoch == 1 || epoch.is_multiple_of((epochs / 10).max(1)) {
            eprintln!("{who}epoch {epoch}/{epochs}  {line}");
        }
        ControlFlow::Continue(())
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Seconds since the fit started.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// The style of a progress bar with this template.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

//! The progress of a fit on standard error: a bar on a terminal, and otherwise a line after each tenth of the way.

use indicatif::{ProgressBar, ProgressStyle};
use ndt_protocol::terminal::say;
use ndt_trainer::training::Progress;
use std::cell::RefCell;
use std::io::IsTerminal;
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
    /// Why there is no checkpoint, as it was said last.
    said: RefCell<Option<String>>,
}

impl FitProgress {
    /// The progress of a fit that starts now.
    pub fn new(epochs: usize, form: ProgressForm) -> FitProgress {
        let bar = ProgressBar::new(epochs as u64);
        bar.set_style(style("epoch {pos}/{len} {bar:30} {msg}  {eta} left"));
        let is_terminal = form == ProgressForm::Text && std::io::stderr().is_terminal();
        FitProgress { bar, is_terminal, form, started: Instant::now(), said: RefCell::default() }
    }

    /// Shows the state after an epoch.
    pub fn show(&self, progress: &Progress) {
        self.say_unkept(progress.unkept.as_deref());
        if self.form == ProgressForm::Json {
            let line = serde_json::json!({
                "generation": progress.generation, "epoch": progress.epoch, "epochs": progress.epochs, "loss": progress.loss,
                "bits-per-spike": progress.scores.bits_per_spike, "velocity-r2": progress.scores.velocity_r2,
                "best": progress.best, "seconds": self.started.elapsed().as_secs_f64(),
            });
            say(line);
            return;
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
        self.show_line(progress.epoch, progress.epochs, &who, &line);
    }

    /// Shows a line about an epoch of what `who` names.
    pub fn show_line(&self, epoch: usize, epochs: usize, who: &str, line: &str) {
        if self.is_terminal {
            self.bar.set_length(epochs as u64);
            self.bar.set_position(epoch as u64);
            self.bar.set_message(format!("{who}{line}"));
        } else if epoch == 1 || epoch.is_multiple_of((epochs / 10).max(1)) {
            say(format_args!("{who}epoch {epoch}/{epochs}  {line}"));
        }
    }

    /// Says once that the last checkpoint could not be written.
    fn say_unkept(&self, why: Option<&str>) {
        let mut said = self.said.borrow_mut();
        if said.as_deref() != why {
            *said = why.map(str::to_owned);
            if let Some(why) = why {
                let line =
                    format!("note: expected to write a checkpoint, found {why}; the fit goes on without it");
                self.bar.suspend(|| say(&line));
            }
        }
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

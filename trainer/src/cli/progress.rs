//! The progress of a fit on standard error: a bar on a terminal, and otherwise a line after each tenth of the way.

mod forecast;

pub use forecast::about;

use forecast::Forecast;
use indicatif::{ProgressBar, ProgressStyle};
use ndt_protocol::terminal::say;
use ndt_trainer::config::Config;
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
    /// Name of the score that chooses the epoch.
    score: &'static str,
    forecast: RefCell<Forecast>,
    /// Why there is no checkpoint, as it was said last.
    said: RefCell<Option<String>>,
}

impl FitProgress {
    /// The progress of a fit that starts now.
    pub fn new(epochs: usize, form: ProgressForm) -> FitProgress {
        let bar = ProgressBar::new(epochs as u64);
        // The time that is left stands in the message: the bar knows nothing of the fits that follow a teacher's.
        bar.set_style(style("epoch {pos}/{len} {bar:30} {msg}"));
        let is_terminal = form == ProgressForm::Text && std::io::stderr().is_terminal();
        FitProgress {
            bar,
            is_terminal,
            form,
            started: Instant::now(),
            score: "co-bps",
            forecast: RefCell::new(Forecast::new(vec![epochs])),
            said: RefCell::default(),
        }
    }

    /// Also expects the teachers that this configuration asks for.
    pub fn with_teacher(self, config: &Config) -> FitProgress {
        let teachers = if config.needs_teacher() { config.teacher.epochs.as_slice() } else { &[] };
        let stages = [teachers, &[config.optimiser.epochs]].concat();
        FitProgress { forecast: RefCell::new(Forecast::new(stages)), ..self }
    }

    /// Names the score that chooses the epoch: co-bps, or bits/spike of masked counts where no unit is held out.
    pub fn scored_with(self, has_heldout: bool) -> FitProgress {
        FitProgress { score: if has_heldout { "co-bps" } else { "masked bits/spike" }, ..self }
    }

    /// Shows the state after an epoch.
    pub fn show(&self, progress: &Progress) {
        self.say_unkept(progress.unkept.as_deref());
        let (generation, epoch, epochs) = (progress.generation, progress.epoch, progress.epochs);
        let seconds = self.seconds();
        if self.form == ProgressForm::Json {
            let left = self.forecast.borrow_mut().after(generation, epoch, epochs, seconds);
            let line = serde_json::json!({
                "generation": generation, "epoch": epoch, "epochs": epochs, "loss": progress.loss,
                "bits-per-spike": progress.scores.bits_per_spike, "velocity-r2": progress.scores.velocity_r2,
                "best": progress.best, "seconds": seconds, "seconds-left": left,
            });
            say(line);
            return;
        }
        let velocity = progress.scores.velocity_r2.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
        let line = format!(
            "loss {:.4}  {} {:.4} (best {:.4}){velocity}",
            progress.loss, self.score, progress.scores.bits_per_spike, progress.best
        );
        self.show_line(generation, epoch, epochs, &line);
    }

    /// Shows a line about an epoch of the model, or of its teacher of this generation, with the time that is left. After the
    /// second epoch it says how long everything will take.
    pub fn show_line(&self, generation: usize, epoch: usize, epochs: usize, line: &str) {
        let seconds = self.seconds();
        let mut forecast = self.forecast.borrow_mut();
        let left_s = forecast.after(generation, epoch, epochs, seconds);
        let whole = forecast.whole_once(epoch, seconds);
        let who = if generation > 0 { format!("teacher {generation}  ") } else { String::new() };
        let left = left_s.map_or_else(String::new, |left| format!("  {} left", about(left)));
        if let Some(whole) = whole {
            self.bar.suspend(|| say(&whole));
        }
        if self.is_terminal {
            self.bar.set_length(epochs as u64);
            self.bar.set_position(epoch as u64);
            self.bar.set_message(format!("{who}{line}{left}"));
        } else if epoch == 1 || epoch.is_multiple_of((epochs / 10).max(1)) {
            say(format_args!("{who}epoch {epoch}/{epochs}  {line}{left}"));
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

//! How long a fit will still take, judged by the epochs that it has done: the teachers' epochs and the model's own.
//!
//! A fit may end earlier than its largest number of epochs, so that what is told is an upper bound.

/// Number of epochs after which the whole duration is told: the first one also allocates everything.
const TOLD_AFTER: usize = 2;

/// The epochs of a fit and the time that they take. Pure: the time is an argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Largest number of epochs of each teacher, and of the model at the end.
    stages: Vec<usize>,
    /// Generation of the stage that is in progress; `None` before the first epoch.
    generation: Option<usize>,
    /// Number of epochs that the stage had done when it was first seen, and when that was, s.
    from: (usize, f64),
    /// When the last epoch ended, s.
    last_s: f64,
    /// Seconds that an epoch takes in the stage.
    epoch_s: Option<f64>,
    /// Number of epochs that are left in this stage and the later ones.
    epochs_left: usize,
    is_told: bool,
}

impl Forecast {
    /// A forecast for stages of at most this many epochs each, the model's own the last.
    pub fn new(stages: Vec<usize>) -> Forecast {
        let epochs_left = stages.iter().sum();
        let (from, last_s) = ((0, 0.0), 0.0);
        Forecast { stages, generation: None, from, last_s, epoch_s: None, epochs_left, is_told: false }
    }

    /// Takes in that `epoch` of `epochs` of a generation (0 is the model itself) ended `now_s` seconds after the start. Returns
    /// how many seconds everything will still take at most.
    pub fn after(&mut self, generation: usize, epoch: usize, epochs: usize, now_s: f64) -> Option<f64> {
        if self.generation != Some(generation) {
            // Resumed fits begin later than at epoch 0.
            self.from = (epoch.saturating_sub(1), self.last_s);
            self.generation = Some(generation);
        }
        self.last_s = now_s;
        let done = epoch.saturating_sub(self.from.0).max(1);
        let epoch_s = (now_s - self.from.1) / done as f64;
        self.epoch_s = Some(epoch_s);
        let later = match generation {
            0 => 0,
            generation => self.stages.iter().skip(generation).sum(),
        };
        self.epochs_left = epochs.saturating_sub(epoch) + later;
        Some(epoch_s * self.epochs_left as f64)
    }

    /// The sentence about the whole duration, once, as soon as it can be told after `epoch` at `now_s`.
    pub fn whole_once(&mut self, epoch: usize, now_s: f64) -> Option<String> {
        let done = epoch.saturating_sub(self.from.0);
        if self.is_told || done < TOLD_AFTER.min(self.epochs_left + done) {
            return None;
        }
        self.is_told = true;
        let epoch_s = self.epoch_s?;
        let whole_s = now_s + epoch_s * self.epochs_left as f64;
        let epochs = self.epochs_left + epoch;
        let teacher = if self.stages.len() > 1 { ", teacher included" } else { "" };
        Some(format!(
            "about {} for at most {epochs} epochs{teacher}: an epoch takes {epoch_s:.2} s",
            about(whole_s)
        ))
    }
}

/// A duration in the unit that suits it, such as `40 s`, `6 min` or `2 h 5 min`.
pub fn about(seconds: f64) -> String {
    // A float to an integer saturates; a NaN is 0.
    let (seconds, minutes) = (seconds.round() as u64, (seconds / 60.0).round() as u64);
    match (seconds, minutes) {
        (0..90, _) => format!("{seconds} s"),
        (_, 0..90) => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_the_fits_that_follow_a_teacher() {
        let mut forecast = Forecast::new(vec![150, 200, 250]);
        assert_eq!(forecast.after(1, 1, 150, 0.5), Some(0.5 * 599.0));
        assert_eq!(forecast.whole_once(1, 0.5), None, "the first epoch also allocates");
        assert_eq!(forecast.after(1, 2, 150, 1.2), Some(0.6 * 598.0));
        let whole = forecast.whole_once(2, 1.2).unwrap();
        assert_eq!(whole, "about 6 min for at most 600 epochs, teacher included: an epoch takes 0.60 s");
        assert_eq!(forecast.whole_once(3, 1.8), None, "it is said once");
        // The first teacher stopped early, after 60 s; the second one is slower.
        forecast.after(1, 100, 150, 60.0);
        assert_eq!(forecast.after(2, 1, 200, 61.0), Some(1.0 * (199.0 + 250.0)));
        assert_eq!(forecast.after(0, 1, 250, 62.5), Some(1.5 * 249.0));
        assert_eq!(forecast.after(0, 250, 250, 62.5 + 249.0), Some(0.0));
    }

    #[test]
    fn a_fit_that_goes_on_from_a_checkpoint_counts_the_epochs_that_are_left() {
        let mut forecast = Forecast::new(vec![250]);
        assert_eq!(forecast.after(0, 201, 250, 2.0), Some(2.0 * 49.0));
        assert_eq!(forecast.whole_once(201, 2.0), None);
        assert_eq!(forecast.after(0, 202, 250, 4.0), Some(2.0 * 48.0));
        let whole = forecast.whole_once(202, 4.0).unwrap();
        assert_eq!(whole, "about 2 min for at most 250 epochs: an epoch takes 2.00 s");
        let mut single = Forecast::new(vec![1]);
        single.after(0, 1, 1, 3.0);
        assert!(single.whole_once(1, 3.0).is_some(), "a single epoch tells all there is");
    }

    #[test]
    fn durations_are_told_in_the_unit_that_suits_them() {
        let told = [0.4, 89.4, 90.0, 360.0, 5399.0, 7500.0, f64::NAN].map(about);
        assert_eq!(told, ["0 s", "89 s", "2 min", "6 min", "1 h 30 min", "2 h 5 min", "0 s"]);
    }
}

//! Early stopping: keeps what scored best, and ends a fit that has not improved for too long.

/// The epoch with the best score.
#[derive(Debug, Clone, PartialEq)]
pub struct Best<T> {
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Score of the epoch; higher is better.
    pub score: f64,
    /// What was kept of the epoch, such as its weights.
    pub kept: T,
}

/// The best epoch so far, and the patience to wait for a better one.
#[derive(Debug, Clone)]
pub struct EarlyStopping<T> {
    patience_epochs: usize,
    best: Option<Best<T>>,
}

impl<T> EarlyStopping<T> {
    /// A fit that ends after `patience_epochs` without a better score. `best` is known from an earlier part of the fit.
    pub fn new(patience_epochs: usize, best: Option<Best<T>>) -> Self {
        EarlyStopping { patience_epochs, best }
    }

    /// Keeps an epoch if its score is the highest so far. The first epoch is kept whatever its score, even if that is
    /// NaN.
    pub fn offer(&mut self, epoch: usize, score: f64, kept: impl FnOnce() -> T) {
        if self.best.as_ref().is_none_or(|best| score > best.score) {
            self.best = Some(Best { epoch, score, kept: kept() });
        }
    }

    /// Whether the last better score lies too many epochs before `epoch`.
    pub fn is_over(&self, epoch: usize) -> bool {
        self.best.as_ref().is_some_and(|best| epoch >= best.epoch + self.patience_epochs)
    }

    /// The best epoch so far; `None` before the first.
    pub fn best(&self) -> Option<&Best<T>> {
        self.best.as_ref()
    }

    /// The best epoch; `None` if there was no epoch.
    pub fn into_best(self) -> Option<Best<T>> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epoch_is_kept_and_patience_ends() {
        let mut stopping = EarlyStopping::new(2, None);
        for (epoch, score, is_over) in
            [(1, f64::NAN, false), (2, 0.5, false), (3, 0.4, false), (4, 0.5, true)]
        {
            stopping.offer(epoch, score, || score);
            // Nothing is greater than a first score of NaN, which is kept.
            assert_eq!(stopping.is_over(epoch), is_over || epoch == 3, "epoch {epoch}");
        }
        let mut stopping = EarlyStopping::new(2, None);
        for (epoch, score) in [(1, 0.1), (2, 0.5), (3, 0.4)] {
            stopping.offer(epoch, score, || epoch);
            assert!(!stopping.is_over(epoch));
        }
        assert!(stopping.is_over(4));
        assert_eq!(stopping.into_best(), Some(Best { epoch: 2, score: 0.5, kept: 2 }));
    }
}

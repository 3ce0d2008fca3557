//! How a velocity fades while nothing new is computed, and the limits of every published velocity.

use serde::{Deserialize, Serialize};

/// What becomes of the last computed velocity while no newer one is there. Rates are always held: a rate of zero would claim
/// that the neurons are silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The velocity is kept, however long.
    Hold,
    /// The velocity fades with a time constant, and is exactly zero after four of them.
    Decay,
    /// The velocity is zero at once.
    Zero,
}

/// Time constants after which a fading velocity, by then below 2 %, is set to zero.
const DECAY_ENDS: f64 = 4.0;

/// A policy with its time constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fade {
    /// Policy by which the velocity fades.
    pub policy: Policy,
    /// Time constant of `decay`, in bin widths.
    pub time_constant_bins: f64,
}

impl Fade {
    /// Returns the factor for the last computed velocity, `bins` bins after it. It depends on the number of bins alone and
    /// not on a clock, so that a replay gives the same numbers.
    pub fn factor(&self, bins: u64) -> f32 {
        match self.policy {
            Policy::Hold => 1.0,
            Policy::Zero => 0.0,
            Policy::Decay => {
                let constants = bins as f64 / self.time_constant_bins;
                if constants >= DECAY_ENDS { 0.0 } else { (-constants).exp() as f32 }
            }
        }
    }
}

/// Highest speed and highest change of a published velocity, for effectors that must not jump.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VelocityLimits {
    /// Highest speed, m/s.
    pub speed_max: Option<f32>,
    /// Largest change from one bin to the next, m/s.
    pub change_max: Option<f32>,
}

impl VelocityLimits {
    /// Shortens `velocity` to the highest speed, and then its change from `before`, the previous velocity, to the largest change;
    /// both keep their direction. Returns whether a limit applied.
    pub fn apply(&self, before: &[f32], velocity: &mut [f32]) -> bool {
        let mut limited = false;
        if let Some(scale) = self.speed_max.and_then(|max| shortened(velocity.iter().copied(), max)) {
            velocity.iter_mut().for_each(|part| *part *= scale);
            limited = true;
        }
        let change = velocity.iter().zip(before).map(|(now, before)| now - before);
        if let Some(scale) = self.change_max.and_then(|max| shortened(change, max)) {
            for (now, before) in velocity.iter_mut().zip(before) {
                *now = before + scale * (*now - before);
            }
            limited = true;
        }
        limited
    }
}

/// Factor that shortens a vector to the length `max`; `None` where it is not longer.
fn shortened(parts: impl Iterator<Item = f32>, max: f32) -> Option<f32> {
    let length = parts.map(|part| part * part).sum::<f32>().sqrt();
    (length > max).then(|| max / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_velocity_is_held_fades_to_exactly_zero_or_is_zero_at_once() {
        let factor = |policy, bins| Fade { policy, time_constant_bins: 2.5 }.factor(bins);
        assert_eq!([factor(Policy::Hold, 1), factor(Policy::Hold, 1_000_000)], [1.0, 1.0]);
        assert_eq!([factor(Policy::Zero, 1), factor(Policy::Zero, 9)], [0.0, 0.0]);
        assert!((factor(Policy::Decay, 1) - (-0.4f32).exp()).abs() < 1e-6);
        let faded: Vec<f32> = (1..=10).map(|bins| factor(Policy::Decay, bins)).collect();
        assert!(
            faded.windows(2).all(|pair| pair[1] < pair[0]) && faded[9] == 0.0 && faded[8] > 0.0,
            "{faded:?}"
        );
    }

    #[test]
    fn speed_and_change_of_speed_are_limited_with_their_direction_kept() {
        let limits = VelocityLimits { speed_max: Some(1.0), change_max: None };
        let mut velocity = [3.0, 4.0];
        assert!(limits.apply(&[0.0, 0.0], &mut velocity));
        assert!((velocity[0] - 0.6).abs() < 1e-6 && (velocity[1] - 0.8).abs() < 1e-6);
        assert!(!limits.apply(&[0.0, 0.0], &mut [0.5, 0.5]));

        let limits = VelocityLimits { speed_max: None, change_max: Some(0.1) };
        let mut velocity = [1.0, 1.0];
        assert!(limits.apply(&[1.0, 0.0], &mut velocity));
        assert!(velocity[0] == 1.0 && (velocity[1] - 0.1).abs() < 1e-6);
        assert!(!VelocityLimits::default().apply(&[0.0], &mut [1e9]));
    }
}

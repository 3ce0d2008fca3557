//! Path of the hand during a reach from the centre to a target, straight or through a via point.
//!
//! The hand follows the minimum-jerk path (Flash and Hogan 1985): in the direction of the target a quintic polynomial from
//! rest to rest, perpendicular to it the quintic spline that passes the via point at its instant. Both are exact, so that
//! velocity is the derivative of position at every instant.

/// Movement of the hand in one trial. Times count from the start of the trial.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reach {
    onset_s: f64,
    duration_s: f64,
    start: [f64; 2],
    /// Vector from start to target, in metres.
    along: [f64; 2],
    /// Vector from the straight path to the via point, in metres; zero for a straight reach.
    across: [f64; 2],
    /// Fraction of the movement after which the via point is passed.
    via_at: f64,
}

impl Reach {
    /// Makes a reach from `start` to `target` (in metres) that begins at `onset_s`. The via point `via` is an offset to the
    /// left of the straight path (in metres), and the fraction of the movement, in (0, 1), after which it is passed.
    pub fn new(
        onset_s: f64,
        duration_s: f64,
        start: [f64; 2],
        target: [f64; 2],
        via: Option<(f64, f64)>,
    ) -> Self {
        let along = [target[0] - start[0], target[1] - start[1]];
        let length = along[0].hypot(along[1]).max(f64::MIN_POSITIVE);
        let (offset, via_at) = via.unwrap_or((0.0, 0.5));
        let across = [-along[1] / length * offset, along[0] / length * offset];
        Reach { onset_s, duration_s, start, along, across, via_at }
    }

    /// Time at which the hand begins to move, in seconds.
    pub fn onset_s(&self) -> f64 {
        self.onset_s
    }

    /// Position of the hand at `t_s`, in metres.
    pub fn position(&self, t_s: f64) -> [f64; 2] {
        let part = self.part(t_s);
        let forward = part.powi(3) * (10.0 - 15.0 * part + 6.0 * part * part);
        let sideways = detour(part, self.via_at).0 / detour(self.via_at, self.via_at).0;
        [0, 1].map(|axis| self.start[axis] + forward * self.along[axis] + sideways * self.across[axis])
    }

    /// Velocity of the hand at `t_s`, in m/s.
    pub fn velocity(&self, t_s: f64) -> [f64; 2] {
        let part = self.part(t_s);
        let forward = 30.0 * part.powi(2) * (1.0 - part).powi(2);
        let sideways = detour(part, self.via_at).1 / detour(self.via_at, self.via_at).0;
        [0, 1].map(|axis| (forward * self.along[axis] + sideways * self.across[axis]) / self.duration_s)
    }

    /// Fraction of the movement that has passed at `t_s`, in [0, 1].
    fn part(&self, t_s: f64) -> f64 {
        ((t_s - self.onset_s) / self.duration_s).clamp(0.0, 1.0)
    }
}

/// Value and slope, at the fraction `part` of the movement, of the minimum-jerk path that rests at both ends and passes an
/// offset at `via_at`: a quintic with a kink in its fifth derivative. The offset is not normalised.
fn detour(part: f64, via_at: f64) -> (f64, f64) {
    // The kink adds this value, slope and curvature at the end, which the polynomial must cancel there.
    let rest = 1.0 - via_at;
    let (value, slope, curvature) = (-rest.powi(5) / 120.0, -rest.powi(4) / 24.0, -rest.powi(3) / 6.0);
    let third = 10.0 * value - 4.0 * slope + curvature / 2.0;
    let fourth = -15.0 * value + 7.0 * slope - curvature;
    let fifth = 6.0 * value - 3.0 * slope + curvature / 2.0;
    let past = (part - via_at).max(0.0);
    let path = part.powi(3) * (third + fourth * part + fifth * part * part) + past.powi(5) / 120.0;
    let tangent =
        part.powi(2) * (3.0 * third + 4.0 * fourth * part + 5.0 * fifth * part * part) + past.powi(4) / 24.0;
    (path, tangent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curved() -> Reach {
        Reach::new(0.4, 0.6, [0.01, -0.01], [0.11, 0.03], Some((0.05, 0.45)))
    }

    fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
        (a[0] - b[0]).hypot(a[1] - b[1])
    }

    #[test]
    fn rests_before_and_after_and_reaches_the_target() {
        let reach = curved();
        assert!(distance(reach.position(0.0), [0.01, -0.01]) < 1e-12);
        assert!(distance(reach.position(1.5), [0.11, 0.03]) < 1e-12);
        for t in [0.0, 0.4, 1.0, 2.0] {
            assert!(distance(reach.velocity(t), [0.0; 2]) < 1e-12, "moves at {t}");
        }
    }

    #[test]
    fn passes_the_via_point_at_its_instant() {
        let reach = curved();
        let straight = Reach::new(0.4, 0.6, [0.01, -0.01], [0.11, 0.03], None);
        let at = 0.4 + 0.45 * 0.6;
        assert!((distance(reach.position(at), straight.position(at)) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn velocity_is_the_derivative_of_position() {
        let reach = curved();
        for step in 0..120 {
            let t = 0.3 + f64::from(step) * 0.0075;
            let (before, after) = (reach.position(t - 1e-6), reach.position(t + 1e-6));
            let slope = [(after[0] - before[0]) / 2e-6, (after[1] - before[1]) / 2e-6];
            assert!(distance(slope, reach.velocity(t)) < 1e-6, "at {t}");
        }
    }
}

//! A reach from the centre to a target, straight or through a point beside the way.
//!
//! The hand follows the minimum-jerk path (Flash and Hogan 1985): along the way the quintic from rest to
//! rest, across it the quintic spline that passes the via point at its instant. Both are exact and smooth,
//! so that the velocity is the position's derivative at every instant.

/// A hand's way through one trial. Times count from the trial's start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach {
    onset_s: f64,
    duration_s: f64,
    start: [f64; 2],
    /// From start to target, m.
    along: [f64; 2],
    /// From the straight way to the via point, m; zero for a straight reach.
    across: [f64; 2],
    /// When the via point is passed, as a part of the movement.
    via_at: f64,
}

impl Reach {
    /// A reach from `start` to `target` (m), beginning at `onset_s`. `via` is a sideways offset to the left
    /// of the way (m) and the part of the movement, in (0, 1), at which it is reached.
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

    /// When the hand begins to move, s.
    pub fn onset_s(&self) -> f64 {
        self.onset_s
    }

    /// Where the hand is at `t_s`, m.
    pub fn position(&self, t_s: f64) -> [f64; 2] {
        let part = self.part(t_s);
        let forward = part.powi(3) * (10.0 - 15.0 * part + 6.0 * part * part);
        let sideways = detour(part, self.via_at).0 / detour(self.via_at, self.via_at).0;
        [0, 1].map(|axis| self.start[axis] + forward * self.along[axis] + sideways * self.across[axis])
    }

    /// How fast the hand moves at `t_s`, m/s.
    pub fn velocity(&self, t_s: f64) -> [f64; 2] {
        let part = self.part(t_s);
        let forward = 30.0 * part.powi(2) * (1.0 - part).powi(2);
        let sideways = detour(part, self.via_at).1 / detour(self.via_at, self.via_at).0;
        [0, 1].map(|axis| (forward * self.along[axis] + sideways * self.across[axis]) / self.duration_s)
    }

    fn part(&self, t_s: f64) -> f64 {
        ((t_s - self.onset_s) / self.duration_s).clamp(0.0, 1.0)
    }
}

/// Value and slope at `part` of the path of least jerk that is pushed aside at `via_at` and rests at both
/// ends: a quintic with a kink in its fifth derivative, up to a factor.
fn detour(part: f64, via_at: f64) -> (f64, f64) {
    // What the kink has added at the end, and what the polynomial must take back there: value, slope, bend.
    let rest = 1.0 - via_at;
    let (value, slope, bend) = (-rest.powi(5) / 120.0, -rest.powi(4) / 24.0, -rest.powi(3) / 6.0);
    let third = 10.0 * value - 4.0 * slope + bend / 2.0;
    let fourth = -15.0 * value + 7.0 * slope - bend;
    let fifth = 6.0 * value - 3.0 * slope + bend / 2.0;
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

//! The quantities of the hand that a readout can decode, and what programs must know of each: its name, its unit and where it
//! comes from.
//!
//! The recipe for a new one is in `tests/CONTRIBUTING.md`, with what catches a step that was forgotten.

/// A quantity of the hand that a model can be fitted to and read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Velocity, m/s.
    Velocity,
    /// Speed, m/s: the length of the velocity.
    Speed,
    /// Acceleration, m/s^2: as recorded, or the change of the velocity.
    Acceleration,
    /// Position, m.
    Position,
    /// Force, N, as recorded.
    Force,
}

impl Quantity {
    /// All quantities.
    pub const ALL: [Quantity; 5] =
        [Quantity::Velocity, Quantity::Speed, Quantity::Acceleration, Quantity::Position, Quantity::Force];

    /// Name of the quantity in manifests, configurations and reports.
    pub const fn series(self) -> &'static str {
        match self {
            Quantity::Velocity => "hand_vel",
            Quantity::Speed => "hand_speed",
            Quantity::Acceleration => "hand_acc",
            Quantity::Position => "hand_pos",
            Quantity::Force => "hand_force",
        }
    }

    /// Behaviour series of a recording that the quantity is taken from or computed from. Of those that a recording has, the
    /// first one is used.
    pub const fn recorded_series(self) -> &'static [&'static str] {
        match self {
            Quantity::Velocity | Quantity::Speed => &["hand_vel"],
            Quantity::Acceleration => &["hand_acc", "hand_vel"],
            Quantity::Position => &["hand_pos"],
            Quantity::Force => &["hand_force"],
        }
    }

    /// Unit, as manifests write it.
    pub const fn unit(self) -> &'static str {
        match self {
            Quantity::Velocity | Quantity::Speed => "m/s",
            Quantity::Acceleration => "m/s^2",
            Quantity::Position => "m",
            Quantity::Force => "N",
        }
    }

    /// Number of components, computed from a series with `recorded` components.
    pub const fn dims(self, recorded: usize) -> usize {
        match self {
            Quantity::Velocity | Quantity::Acceleration | Quantity::Position | Quantity::Force => recorded,
            Quantity::Speed => 1,
        }
    }

    /// Returns the quantity of a readout, found by the name of its series or, if no quantity has that name, by its unit. A series
    /// that has a quantity's name may be in any unit that belongs to no quantity, such as `pixels/s`. `None` if no quantity fits.
    pub fn of(series: &str, unit: &str) -> Option<Quantity> {
        let by =
            |is_it: &dyn Fn(Quantity) -> bool| Quantity::ALL.into_iter().find(|quantity| is_it(*quantity));
        let of_unit = by(&|quantity| quantity.unit() == unit);
        match by(&|quantity| quantity.series() == series) {
            Some(named) if named.unit() == unit => Some(named),
            Some(named) => (of_unit.is_none() && !unit.trim().is_empty()).then_some(named),
            None => of_unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_has_a_name_of_its_own() {
        for (at, quantity) in Quantity::ALL.into_iter().enumerate() {
            let others = &Quantity::ALL[at + 1..];
            assert!(others.iter().all(|other| other.series() != quantity.series()), "{quantity:?}");
        }
    }

    #[test]
    fn a_readout_is_known_by_its_series_and_otherwise_by_its_unit() {
        for quantity in Quantity::ALL {
            assert_eq!(Quantity::of(quantity.series(), quantity.unit()), Some(quantity));
        }
        assert_eq!(Quantity::of("cursor", "m/s"), Some(Quantity::Velocity));
        assert_eq!(Quantity::of("cursor", "m"), Some(Quantity::Position));
        assert_eq!(Quantity::of("cursor", "pixels"), None);
        assert_eq!(Quantity::of("hand_vel", "m"), None, "a series in another quantity's unit");
        assert_eq!(Quantity::of("hand_vel", "pixels/s"), Some(Quantity::Velocity));
        assert_eq!(Quantity::of("hand_vel", " "), None);
    }
}

//! What a readout decodes. Manifest, dataset, precision and reports match this enum exhaustively: whoever adds a quantity is
//! asked at every place what it means there.

/// A quantity of the hand that a model can be fitted to and read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Velocity, m/s.
    Velocity,
    /// Speed, m/s: the length of the velocity.
    Speed,
    /// Position, m.
    Position,
}

impl Quantity {
    /// All quantities.
    pub const ALL: [Quantity; 3] = [Quantity::Velocity, Quantity::Speed, Quantity::Position];

    /// Name of the quantity in manifests, configurations and reports.
    pub const fn series(self) -> &'static str {
        match self {
            Quantity::Velocity => "hand_vel",
            Quantity::Speed => "hand_speed",
            Quantity::Position => "hand_pos",
        }
    }

    /// Behaviour series of a recording that the quantity is computed from.
    pub const fn recorded_series(self) -> &'static str {
        match self {
            Quantity::Velocity | Quantity::Speed => "hand_vel",
            Quantity::Position => "hand_pos",
        }
    }

    /// Unit, as manifests write it.
    pub const fn unit(self) -> &'static str {
        match self {
            Quantity::Velocity | Quantity::Speed => "m/s",
            Quantity::Position => "m",
        }
    }

    /// Number of components, computed from a series with `recorded` components.
    pub const fn dims(self, recorded: usize) -> usize {
        match self {
            Quantity::Velocity | Quantity::Position => recorded,
            Quantity::Speed => 1,
        }
    }

    /// Whether the daemon can publish the quantity in the velocity of its estimates.
    pub const fn is_publishable(self) -> bool {
        match self {
            Quantity::Velocity => true,
            Quantity::Speed | Quantity::Position => false,
        }
    }

    /// The quantity of a readout, by its series; of a series with another name, by its unit. `None` for a unit that no quantity
    /// has.
    pub fn of(series: &str, unit: &str) -> Option<Quantity> {
        let by =
            |is_it: &dyn Fn(Quantity) -> bool| Quantity::ALL.into_iter().find(|quantity| is_it(*quantity));
        let named = by(&|quantity| quantity.series() == series);
        named.or_else(|| by(&|quantity| quantity.unit() == unit)).filter(|quantity| quantity.unit() == unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readout_is_known_by_its_series_and_otherwise_by_its_unit() {
        for quantity in Quantity::ALL {
            assert_eq!(Quantity::of(quantity.series(), quantity.unit()), Some(quantity));
        }
        assert_eq!(Quantity::of("cursor", "m/s"), Some(Quantity::Velocity));
        assert_eq!(Quantity::of("cursor", "m"), Some(Quantity::Position));
        assert_eq!(Quantity::of("cursor", "pixels"), None);
        assert_eq!(Quantity::of("hand_vel", "m"), None, "a series in another quantity's unit");
    }
}

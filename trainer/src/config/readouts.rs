//! The table `velocity` of the configuration: which quantities are read out of the model, and which velocity is published.

use ndt_protocol::bundle::quantity::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is read out of the model besides firing rates, each linear in the final state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Readouts {
    /// Lags from a bin's centre to the instants that are read out, ms; each lag is a readout of its own.
    pub lags_ms: Vec<f64>,
    /// The velocity that the daemon publishes unless it is told otherwise.
    pub publish: Publish,
    /// Whether the hand's speed is read out too, at each lag.
    pub speed: bool,
    /// Whether the hand's acceleration is read out too, at each lag.
    pub acceleration: bool,
    /// Whether the hand's position is read out too, at each lag.
    pub position: bool,
    /// Whether the force at the hand is read out too, at each lag.
    pub force: bool,
    /// Whether a readout is replaced by a ridge regression on the final state where that validates better.
    pub refit: bool,
}

/// The velocity that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// The velocity at the first lag.
    First,
    /// The velocity at the lag that validates best.
    Best,
}

impl Default for Readouts {
    fn default() -> Self {
        Readouts {
            lags_ms: vec![0.0, 100.0],
            publish: Publish::First,
            speed: false,
            acceleration: false,
            position: false,
            force: false,
            refit: true,
        }
    }
}

impl Readouts {
    /// Quantity and lag (ms) of each readout, the velocities first.
    pub fn wanted(&self) -> Vec<(Quantity, f64)> {
        let wanted = Quantity::ALL.into_iter().filter(|quantity| match quantity {
            Quantity::Velocity => true,
            Quantity::Speed => self.speed,
            Quantity::Acceleration => self.acceleration,
            Quantity::Position => self.position,
            Quantity::Force => self.force,
        });
        wanted.flat_map(|quantity| self.lags_ms.iter().map(move |lag_ms| (quantity, *lag_ms))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that switch a quantity on: those that are a truth value, except `refit`.
    fn switches() -> Vec<String> {
        let table = toml::Table::try_from(Readouts::default()).unwrap();
        let is_switch = |(key, value): &(String, toml::Value)| value.is_bool() && key != "refit";
        table.into_iter().filter(is_switch).map(|(key, _)| key).collect()
    }

    #[test]
    fn every_quantity_but_velocity_is_switched_on_by_one_key_and_every_key_switches_one_on() {
        let quantities = |keys: &[String]| {
            let text: String = keys.iter().map(|key| format!("{key} = true\n")).collect();
            let readouts: Readouts = toml::from_str(&format!("lags-ms = [0.0]\n{text}")).unwrap();
            readouts.wanted().into_iter().map(|(quantity, _)| quantity).collect::<Vec<_>>()
        };
        assert_eq!(quantities(&[]), [Quantity::Velocity]);
        for key in switches() {
            let found = quantities(std::slice::from_ref(&key));
            assert_eq!(found.len(), 2, "{key} = true reads out {found:?}");
        }
        assert_eq!(quantities(&switches()), Quantity::ALL);
    }
}

//! The variants and what is expected of them.

/// A variant of `tests/python/make_variant.py`.
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// Conditions of `--where`.
    pub conditions: &'static [&'static str],
    /// Number of units that are read.
    pub units: usize,
    /// A part of what is said while the file is read; empty if nothing is expected.
    pub note: &'static str,
    /// Column of the splits, and its values for training, validation and test; `None` for the usual ones.
    pub splits: Option<[&'static str; 4]>,
    /// Whether all observed time is fitted.
    pub observed: bool,
    /// Whether the variant takes more than a minute.
    pub is_heavy: bool,
}

const USUAL: Variant = Variant {
    name: "",
    conditions: &[],
    units: 16,
    note: "",
    splits: None,
    observed: false,
    is_heavy: false,
};

/// All variants.
pub const VARIANTS: &[Variant] = &[
    Variant { name: "no trials", observed: true, ..USUAL },
    Variant { name: "other split names", splits: Some(["phase", "fit", "choose", "keep"]), ..USUAL },
    Variant { name: "position only", ..USUAL },
    Variant { name: "finger velocities", ..USUAL },
    Variant { name: "EMG of 12 columns in mV", ..USUAL },
    Variant { name: "acquisition instead of a module", ..USUAL },
    Variant {
        name: "several electrode groups",
        conditions: &["location=M1"],
        units: 8,
        note: "8 of 16 units",
        ..USUAL
    },
    Variant { name: "threshold crossings", note: "16 series of threshold crossings", ..USUAL },
    Variant { name: "binned counts", ..USUAL },
    Variant { name: "ndx-binned-spikes", observed: true, ..USUAL },
    Variant { name: "no held-out units", ..USUAL },
    Variant { name: "gaps that differ by unit", note: "units were observed at different times", ..USUAL },
    Variant {
        name: "trials with NaN times",
        note: "trials have a start or an end that is not a number",
        ..USUAL
    },
    Variant { name: "row numbers", ..USUAL },
    Variant { name: "one trial of 20 minutes", observed: true, is_heavy: true, ..USUAL },
    Variant { name: "1024 units for 10 minutes", units: 1024, is_heavy: true, ..USUAL },
];

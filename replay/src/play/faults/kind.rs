//! The table of fault kinds: the one place that says what can go wrong.
//!
//! The keys of `--faults`, its help text and the tests of every kind come from [`FaultKind::TABLE`]. To add a kind, add a
//! variant and a row: the compiler then names every `match` that has to learn the kind, and the tests ask for the rest (its
//! name in the file, a golden plan that holds it, and therefore a new version of the file).

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Single bins are lost.
    Drop,
    /// Bins are sent twice.
    Dup,
    /// A bin is sent after bins that follow it.
    Reorder,
    /// Bins are sent later than they are due.
    Jitter,
    /// Several bins in a row are lost.
    Burst,
    /// Nothing is sent for some time, then everything that was due.
    Stall,
    /// Counts are NaN.
    Nan,
    /// Bins carry another number of channels.
    Channels,
    /// The clock of the source jumps.
    Clock,
    /// The source starts again and numbers its bins from 0.
    Restart,
}

/// What about the sent bins a fault changes, compared with a play without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Some bins are not sent.
    Loss,
    /// Some bins are sent more than once.
    Copies,
    /// Bins are sent in a different order than without the fault.
    Order,
    /// Bins are sent at other instants; their bytes stay the same.
    Instants,
    /// Bins carry other counts.
    Counts,
    /// Bins carry more or fewer counts than without the fault.
    Channels,
    /// Bins carry a different source time than without the fault.
    SourceTime,
    /// Bins carry different numbers than without the fault, in another run of the source.
    Numbers,
}

/// One row of the table of fault kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRow {
    /// Kind of fault that this row of the table describes.
    pub kind: FaultKind,
    /// Key of the kind in `--faults` and in files of fault plans.
    pub key: &'static str,
    /// How the fault is written in `--faults`.
    pub syntax: &'static str,
    /// Help text: one clause that says what happens.
    pub help: &'static str,
    /// A fault of this kind, as written in `--faults`.
    pub example: &'static str,
    /// What the fault changes about the sent bins.
    pub effect: Effect,
    /// Meaning of [`FaultEvent::by`](super::FaultEvent::by) in events of this kind.
    pub amount: &'static str,
    /// Whether `--faults` may contain the kind more than once.
    pub repeats: bool,
    /// Number of the random stream that the kind draws from. It is not the stream of any other purpose of the same seed.
    pub random_stream: u64,
}

impl FaultKind {
    /// All kinds, in the order of the enum. [`Faults`](super::Faults) are printed in this order.
    pub const TABLE: [FaultRow; 10] = [
        FaultRow {
            kind: FaultKind::Drop,
            key: "drop",
            syntax: "drop=P%",
            help: "lose P percent of the bins",
            example: "drop=10%",
            effect: Effect::Loss,
            amount: "1",
            repeats: false,
            random_stream: 101,
        },
        FaultRow {
            kind: FaultKind::Dup,
            key: "dup",
            syntax: "dup=P%",
            help: "send P percent of the bins twice",
            example: "dup=10%",
            effect: Effect::Copies,
            amount: "1",
            repeats: false,
            random_stream: 102,
        },
        FaultRow {
            kind: FaultKind::Reorder,
            key: "reorder",
            syntax: "reorder=N",
            help: "send 1 percent of the bins after up to N later ones",
            example: "reorder=3",
            effect: Effect::Order,
            amount: "later bins that are sent first",
            repeats: false,
            random_stream: 103,
        },
        FaultRow {
            kind: FaultKind::Jitter,
            key: "jitter",
            syntax: "jitter=D",
            help: "send each bin up to D late",
            example: "jitter=3ms",
            effect: Effect::Instants,
            amount: "longest delay, ns",
            repeats: false,
            random_stream: 104,
        },
        FaultRow {
            kind: FaultKind::Burst,
            key: "burst",
            syntax: "burst=N",
            help: "lose N bins in a row, once in 500 bins",
            example: "burst=12",
            effect: Effect::Loss,
            amount: "lost bins",
            repeats: false,
            random_stream: 105,
        },
        FaultRow {
            kind: FaultKind::Stall,
            key: "stall",
            syntax: "stall=D@T",
            help: "at time T, send nothing for D, then all at once",
            example: "stall=500ms@2s",
            effect: Effect::Instants,
            amount: "duration, ns",
            repeats: true,
            random_stream: 107,
        },
        FaultRow {
            kind: FaultKind::Nan,
            key: "nan",
            syntax: "nan=P%",
            help: "replace P percent of the counts by NaN",
            example: "nan=20%",
            effect: Effect::Counts,
            amount: "counts of a bin that are NaN",
            repeats: false,
            random_stream: 106,
        },
        FaultRow {
            kind: FaultKind::Channels,
            key: "channels",
            syntax: "channels=+K@T",
            help: "for 1 s from time T, send K channels too many (-K: too few)",
            example: "channels=+1@2s",
            effect: Effect::Channels,
            amount: "surplus channels; negative if channels are missing",
            repeats: true,
            random_stream: 108,
        },
        FaultRow {
            kind: FaultKind::Clock,
            key: "clock",
            syntax: "clock=+D@T",
            help: "from time T, set the source's clock D ahead (-D: back)",
            example: "clock=+5s@3s",
            effect: Effect::SourceTime,
            amount: "jump of the clock, ns",
            repeats: true,
            random_stream: 109,
        },
        FaultRow {
            kind: FaultKind::Restart,
            key: "restart",
            syntax: "restart@T",
            help: "at time T, restart the source: its bins count from 0",
            example: "restart@2s",
            effect: Effect::Numbers,
            amount: "number of the run that begins",
            repeats: true,
            random_stream: 110,
        },
    ];

    /// Returns the row of the fault table for this kind of fault.
    pub const fn row(self) -> &'static FaultRow {
        const TABLE: &[FaultRow] = &FaultKind::TABLE;
        &TABLE[self as usize]
    }

    /// Finds the fault kind with this key.
    pub fn with_key(key: &str) -> Option<FaultKind> {
        FaultKind::TABLE.iter().find(|row| row.key == key).map(|row| row.kind)
    }

    /// Iterates over all fault kinds, in the order of [`FaultKind::TABLE`].
    pub fn all() -> impl Iterator<Item = FaultKind> {
        FaultKind::TABLE.into_iter().map(|row| row.kind)
    }

    /// Returns the keys of all fault kinds, separated by commas.
    pub fn keys() -> String {
        FaultKind::TABLE.map(|row| row.key).join(", ")
    }

    /// Returns the help text with one line for each kind of fault.
    pub fn help() -> String {
        let width = FaultKind::TABLE.iter().map(|row| row.syntax.len()).max().unwrap_or(0);
        FaultKind::TABLE.iter().fold(String::new(), |mut help, FaultRow { syntax, help: clause, .. }| {
            // Writing to a string cannot fail.
            let _ = writeln!(help, "  {syntax:width$}  {clause}");
            help
        })
    }
}

// A kind is the index of its row.
const _: () = {
    let mut at = 0;
    while at < FaultKind::TABLE.len() {
        assert!(FaultKind::TABLE[at].kind as usize == at);
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_row() {
        // The message of an unknown variant lists all variants of the enum, which the table could otherwise forget.
        let error = serde_json::from_str::<FaultKind>("\"none of them\"").unwrap_err().to_string();
        let quoted: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert_eq!(quoted, FaultKind::TABLE.map(|row| row.key), "{error}");
    }

    #[test]
    fn rows_agree_with_themselves_and_differ_from_each_other() {
        let streams: BTreeSet<u64> = FaultKind::TABLE.iter().map(|row| row.random_stream).collect();
        assert_eq!(streams.len(), FaultKind::TABLE.len(), "two kinds draw from one random stream");
        for kind in FaultKind::all() {
            let row = kind.row();
            assert_eq!((row.kind, FaultKind::with_key(row.key)), (kind, Some(kind)));
            for written in [row.syntax, row.example] {
                let (key, _) = written.split_at(written.find(['=', '@']).unwrap());
                assert_eq!(key, row.key, "{written}");
            }
        }
        assert_eq!(FaultKind::with_key("none"), None);
        assert_eq!(FaultKind::help().lines().count(), FaultKind::TABLE.len());
    }
}

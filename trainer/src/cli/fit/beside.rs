//! The baselines beside a fit: their rows in the report and in the bundle's record, and what to run where the transformer does not win.

use super::options::Fit;
use crate::cli::interruption::Interruption;
use crate::cli::progress::{ProgressForm, style};
use indicatif::ProgressBar;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::bundle::origin::DecoderScore;
use ndt_protocol::terminal::say;
use ndt_trainer::baselines::comparison::{self, Compared};
use ndt_trainer::config::Config;
use ndt_trainer::data::Dataset;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is left to `ndt-train baselines`.
const LEFT: &str = "no GRU beside it: it takes minutes, and ndt-train baselines fits it";

/// What a fit reports of the baselines beside it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Beside {
    /// The decoders on the same bins, the model first; empty where there is nothing to compare.
    decoders: Vec<DecoderScore>,
    /// What is decoded, and its lag.
    decoded: Option<String>,
    /// Name of the baseline that scores best on the validation trials.
    best: Option<String>,
    /// Why there are no baselines; absent where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    none: Option<String>,
    /// What to run in place of the transformer; absent where the transformer wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// Fits the baselines beside a bundle that has been written to `path`, and writes it again with their rows in its record. Neither a
/// baseline that fails nor a bundle that cannot be written again ends the fit: the first is a row, the second a note.
pub fn beside(
    command: &Fit,
    recordings: &[PathBuf],
    (bundle, path): (&mut Bundle, &Path),
    data: &Dataset,
    config: &Config,
    interruption: &Interruption,
) -> Beside {
    let none = |why: String| Beside {
        decoders: Vec::new(),
        decoded: None,
        best: None,
        none: Some(format!("no baselines beside it: {why}")),
        advice: None,
    };
    if command.no_baselines {
        return none("--no-baselines leaves them out".to_owned());
    }
    let bar = match command.progress {
        ProgressForm::Text => ProgressBar::new(0).with_style(style("baselines {bar:30} {msg}  {elapsed}")),
        ProgressForm::Json => ProgressBar::hidden(),
    };
    let rows = comparison::beside(bundle, data, &mut |name, done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
        bar.set_message(name.to_owned());
        interruption.flow()
    });
    bar.finish_and_clear();
    let rows = match rows {
        Ok(rows) => rows,
        Err(why) => return none(why.to_string()),
    };
    let decoders: Vec<DecoderScore> = rows.iter().map(|row| row.score.clone()).collect();
    if let Some(record) = &mut bundle.origin.record {
        record.comparison = decoders.clone();
        if let Err(error) = bundle.write(path) {
            say(format_args!("note: the baselines are not in the bundle's fit.json: {error}"));
        }
    }
    let velocity = bundle.manifest.velocity();
    Beside {
        decoders,
        decoded: velocity.map(|Readout { series, lag_ms, .. }| format!("{series}, lag {lag_ms} ms")),
        best: comparison::best(&rows, |_| true).map(|best| best.score.decoder.clone()),
        none: None,
        advice: advice(&rows, velocity, |method| baselines(command, recordings, path, config, method)),
    }
}

/// What to run where the transformer does not win. The best baseline is the one of the highest validation score; the two are compared on
/// the test trials, or on the validation trials where there are none.
fn advice(rows: &[Compared], velocity: Option<&Readout>, command: impl Fn(&str) -> String) -> Option<String> {
    let model = &rows.first()?.score;
    let best = comparison::best(rows, |_| true)?;
    let (split, score): (_, fn(&DecoderScore) -> Option<f64>) = match model.test_r2 {
        Some(_) => ("test", |row| row.test_r2),
        None => ("validation", |row| row.validation_r2),
    };
    let (of_model, of_best) = (score(model)?, score(&best.score)?);
    if of_model > of_best {
        return None;
    }
    let found = format!(
        "the transformer does not win: on {split} {} has R2 {of_best:.4}, the transformer {of_model:.4}",
        best.score.decoder
    );
    let Some((runs, method)) =
        comparison::best(rows, |row| row.exported.is_some()).and_then(|row| Some((row, row.exported?)))
    else {
        return Some(found);
    };
    let method = format!("{method:?}").to_lowercase();
    let which = match runs.score.decoder == best.score.decoder {
        true => "its bundle, which ndtd runs".to_owned(),
        false => format!(
            "the bundle of {} ({:.4}), the best one that ndtd runs",
            runs.score.decoder,
            score(&runs.score).unwrap_or(f64::NAN)
        ),
    };
    let lag = velocity.filter(|velocity| velocity.lag_ms != 0.0);
    let lag = lag.map_or("", |_| " (it decodes the bin's centre)");
    Some(format!("{found}; this writes {which}{lag}: {}", command(&method)))
}

/// The command that writes the bundle of a baseline which was fitted as this model was.
fn baselines(command: &Fit, recordings: &[PathBuf], path: &Path, config: &Config, method: &str) -> String {
    let mut words = vec!["ndt-train".to_owned(), "baselines".to_owned(), "--data".to_owned()];
    words.extend(recordings.iter().map(|path| path.display().to_string()));
    words.push(format!("--bin-ms={}", config.data.bin_ms));
    words.extend(config.data.arguments());
    words.extend(command.selected.arguments());
    let units = match config.data.units {
        ndt_trainer::config::Units::Heldin => ("held-in", "-heldin"),
        ndt_trainer::config::Units::All => ("all", ""),
    };
    let model = path.display().to_string();
    let out = format!("{}-linear", model.trim_end_matches(".ndt"));
    words.extend([format!("--units={}", units.0), format!("--only={method}"), format!("--out={out}")]);
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("{} (the bundle is {out}/{method}{})", words.join(" "), units.1)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

impl Beside {
    /// The table in lines, and at the end what to run where the transformer does not win.
    pub fn lines(&self) -> Vec<String> {
        let Beside { decoders, decoded, best, none, advice } = self;
        if let Some(none) = none {
            return vec![none.clone()];
        }
        let name = |row: &DecoderScore| {
            let is_best = best.as_ref() == Some(&row.decoder);
            format!("{}{}", row.decoder, if is_best { " (best baseline)" } else { "" })
        };
        let width = decoders.iter().map(|row| name(row).len()).max().unwrap_or(0);
        let cell = |score: Option<f64>| score.map_or_else(|| "-".to_owned(), |score| format!("{score:.4}"));
        let row = |row: &DecoderScore| match &row.failed {
            Some(why) => format!("{:width$}  left out: {why}", name(row)),
            None => {
                let DecoderScore { validation_r2, test_r2, chosen, .. } = row;
                let line = format!(
                    "{:width$}  {:>10}  {:>7}  {chosen}",
                    name(row),
                    cell(*validation_r2),
                    cell(*test_r2)
                );
                line.trim_end().to_owned()
            }
        };
        let of = decoded.as_ref().map_or_else(String::new, |decoded| format!(" of {decoded}"));
        let mut lines = vec![format!("R2{of}, on the same bins, every trial from a cold start:")];
        lines.push(format!("{:width$}  {:>10}  {:>7}", "decoder", "validation", "test"));
        lines.extend(decoders.iter().map(row));
        lines.push(LEFT.to_owned());
        lines.extend(advice.clone());
        lines
    }
}

//! Reads a configuration entry by entry, so that one that cannot be read hides no other.

use super::Config;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer, Error};

/// Reads what can be read of a text, and returns one phrase for each entry that cannot, in the order of the text.
///
/// # Errors
/// What is wrong with the text, when it is no TOML.
pub fn read(text: &str) -> Result<(Config, Vec<String>), String> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(phrases(text, errors).join("; "));
    }
    let (mut good, mut errors) = (DeTable::new(), Vec::new());
    for (key, value) in table.into_inner() {
        take(key, value, &mut good, &mut errors);
    }
    let config = config(good).unwrap_or_else(|error| {
        errors.push(error);
        Config::default()
    });
    Ok((config, phrases(text, errors)))
}

/// Moves an entry to the `good` ones, or its error to the `errors`; of a section, each entry by itself. Every key has a default, so
/// that an entry alone is a whole configuration.
fn take<'a>(
    key: Spanned<DeString<'a>>,
    value: Spanned<DeValue<'a>>,
    good: &mut DeTable<'a>,
    errors: &mut Vec<Error>,
) {
    let span = value.span();
    let DeValue::Table(section) = value.get_ref() else {
        match config(alone(key.clone(), value.clone())) {
            Ok(_) => drop(good.insert(key, value)),
            Err(error) => errors.push(error),
        }
        return;
    };
    let within = |section: DeTable<'a>| Spanned::new(span.clone(), DeValue::Table(section));
    // An unknown section is one problem, however many entries it has.
    if let Err(error) = config(alone(key.clone(), within(DeTable::new()))) {
        errors.push(error);
        return;
    }
    let mut kept = DeTable::new();
    for (inner, value) in section.clone() {
        match config(alone(key.clone(), within(alone(inner.clone(), value.clone())))) {
            Ok(_) => drop(kept.insert(inner, value)),
            Err(error) => errors.push(error),
        }
    }
    good.insert(key, within(kept));
}

/// A table with one entry.
fn alone<'a>(key: Spanned<DeString<'a>>, value: Spanned<DeValue<'a>>) -> DeTable<'a> {
    let mut table = DeTable::new();
    table.insert(key, value);
    table
}

fn config(table: DeTable) -> Result<Config, Error> {
    Config::deserialize(Deserializer::from(Spanned::new(0..0, table)))
}

/// Says what was found and in which line, in the order of the text.
fn phrases(text: &str, mut errors: Vec<Error>) -> Vec<String> {
    let start = |error: &Error| error.span().map_or(0, |span| span.start.min(text.len()));
    errors.sort_by_key(start);
    let are_several = errors.len() > 1;
    let phrase = |error: &Error| {
        let line = 1 + text.as_bytes()[..start(error)].iter().filter(|byte| **byte == b'\n').count();
        let message = error.message().replace('\n', " ");
        // The list of all known keys would hide the other problems.
        let is_cut = are_several && message.starts_with("unknown field");
        let message = if is_cut { message.split(", expected").next().unwrap_or_default() } else { &message };
        format!("{message} in line {line}")
    };
    errors.iter().map(phrase).collect()
}

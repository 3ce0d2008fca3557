//! The reference page of the configuration, and the example with every key: made from the types, so that neither can be out of date.

use super::defaults::{Defaults, RULES};
use crate::config::{Config, ConfigError, KEYS, Key, Meaning, commented, meanings, range};
use toml::Table;

/// The text of `trainer/docs/configuration.md`.
///
/// # Errors
/// [`ConfigError::Check`] for a default that TOML cannot hold.
pub fn reference_page() -> Result<String, ConfigError> {
    let (defaults, preset) = (Config::default().table()?, Defaults::ndt().config.table()?);
    let mut page = String::from(
        "# Configuration of a fit\n\n\
         Every key of the file that `ndt-train fit --config`, `finetune --config` and the table `base` of a sweep take. The page is made \
         from the types by `trainer/tests/configuration.rs`, which fails when they differ.\n\n\
         What a fit takes for a key, the first of these that says it: an option of the command line (`--seed`, `--epochs`, \
         `--no-teacher`); the configuration file; the preset (`--preset ndt`), or the rules by which a default follows from the data; \
         the default. `ndt-train fit --data session.nwb --print-config` prints the result with comments before any fit, and a bundle \
         keeps it as `config.toml`. A key that is not listed here is refused, with its name. Values out of their range are refused, all \
         at once.\n\n\
         An editor that knows JSON schemas completes and checks a file that begins with `#:schema` and the path of \
         [train.schema.json](../train.schema.json), as [train.example.toml](../train.example.toml) does.\n",
    );
    let mut current = "";
    for (key, meaning) in KEYS.iter().zip(meanings()) {
        let (table, name) = key.name.split_once('.').unwrap_or((key.name, ""));
        if table != current {
            page.push_str(&format!(
                "\n## `[{table}]`\n\n| key | default | preset `ndt` | range | meaning |\n|---|---|---|---|---|\n"
            ));
            current = table;
        }
        let (default, ndt) = (value(key, &defaults), value(key, &preset));
        let ndt = if ndt == default { String::new() } else { format!("`{ndt}`") };
        page.push_str(&format!(
            "| `{name}` | {} | {ndt} | {} | {} |\n",
            default_of(key, &default),
            range(key),
            explained(&meaning)
        ));
    }
    Ok(page)
}

/// The text of `trainer/train.example.toml`: every key with its default.
///
/// # Errors
/// [`ConfigError::Check`] for a default that TOML cannot hold.
pub fn example() -> Result<String, ConfigError> {
    let text = commented(&Config::default())?;
    Ok(format!(
        "#:schema train.schema.json\n\
         # Every key of a fit's configuration with its default. Keys that a file leaves out have their defaults, and some of those\n\
         # follow from the data (docs/configuration.md), so keep only what you change.\n\n{text}"
    ))
}

fn value(key: &Key, config: &Table) -> String {
    key.value(config).map_or_else(String::new, ToString::to_string)
}

/// The default of a key, with the rule by which it follows from the data.
fn default_of(key: &Key, default: &str) -> String {
    match RULES.iter().find(|(name, _)| *name == key.name) {
        Some((_, rule)) => (*rule).to_owned(),
        None => format!("`{default}`"),
    }
}

/// The meaning of a key and of the words that it may be.
fn explained(Meaning { text, words }: &Meaning) -> String {
    let explained = words.iter().filter(|(_, meaning)| !meaning.is_empty());
    text.clone() + &explained.map(|(word, meaning)| format!(" `{word}`: {meaning}")).collect::<String>()
}

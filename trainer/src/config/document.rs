//! The configuration described from its types: each key's meaning is the doc comment of its field, its unit and range are those of
//! [`KEYS`]. Hence a configuration with comments, and a schema by which editors complete and check a configuration file.

use super::{Config, ConfigError, KEYS, Key};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Width of the comments, in characters.
const COLUMNS: usize = 100;

/// What a key is, as the types say it.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// The summary of the key, on one line.
    pub text: String,
    /// The words that the key may be, each with its meaning; empty for a key that is no choice of words.
    pub words: Vec<(String, String)>,
}

/// The meaning of each key, in the order of [`KEYS`].
pub fn meanings() -> Vec<Meaning> {
    let schema = types();
    KEYS.iter().map(|key| meaning(&schema, key)).collect()
}

/// The meaning of a key in the schema of the types.
fn meaning(schema: &Value, key: &Key) -> Meaning {
    let (table, name) = key.name.split_once('.').unwrap_or((key.name, ""));
    let property = &schema["properties"][table]["properties"][name];
    let word = |of: &Value| Some((of["const"].as_str()?.to_owned(), one_line(&of["description"])));
    let plain = |of: &Value| Some((of.as_str()?.to_owned(), String::new()));
    let listed = |values: &Value, word: &dyn Fn(&Value) -> Option<(String, String)>| {
        values.as_array().into_iter().flatten().filter_map(word).collect::<Vec<_>>()
    };
    let mut words = listed(&property["oneOf"], &word);
    words.extend(listed(&property["enum"], &plain));
    Meaning { text: one_line(&property["description"]), words }
}

/// The range of a key in words, with its unit: `1 to 60000 ms`. Empty for a key that is no number.
pub fn range(key: &Key) -> String {
    let Some((low, high)) = key.range else { return String::new() };
    let unit = if key.unit.is_empty() { String::new() } else { format!(" {}", key.unit) };
    match key.unit {
        "probability" => format!("{low} to {high}"),
        // Such a bound only keeps numbers within what can be computed with.
        _ if high >= 1e6 => format!("at least {low}{unit}"),
        _ => format!("{low} to {high}{unit}"),
    }
}

/// A configuration as a file: every key with its value, and its meaning and range as a comment. The same configuration gives the
/// same text.
///
/// # Errors
/// [`ConfigError::Check`] for a value that TOML cannot hold.
pub fn commented(config: &Config) -> Result<String, ConfigError> {
    let table = config.table()?;
    let schema = types();
    let mut text = String::new();
    let mut current = "";
    for key in &KEYS {
        let (name, short) = key.name.split_once('.').unwrap_or((key.name, ""));
        if name != current {
            let blank = if current.is_empty() { "" } else { "\n" };
            let about = comment(&one_line(&schema["properties"][name]["description"]));
            text.push_str(&format!("{blank}{about}[{name}]\n"));
            current = name;
        }
        let Meaning { text: meaning, words } = meaning(&schema, key);
        let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let found = [range(key), words.join(" or ")].concat();
        let sentence = if found.is_empty() { meaning } else { format!("{meaning} ({found})") };
        let value = key.value(&table).map_or_else(String::new, ToString::to_string);
        text.push_str(&format!("{}{short} = {value}\n", comment(&sentence)));
    }
    Ok(text)
}

/// The JSON schema of a configuration file.
pub fn schema() -> Value {
    let mut schema = types();
    schema["title"] = json!("Configuration of ndt-train");
    for key in &KEYS {
        let (Some((low, high)), Some((table, name))) = (key.range, key.name.split_once('.')) else {
            continue;
        };
        let property = &mut schema["properties"][table]["properties"][name];
        let number = if property["type"] == "array" { &mut property["items"] } else { property };
        if let Some(number) = number.as_object_mut() {
            bound(number, "minimum", low);
            bound(number, "maximum", high);
        }
    }
    schema
}

/// Sets a bound of a number's schema, as a whole number where the type is one.
fn bound(number: &mut Map<String, Value>, name: &str, value: f64) {
    let is_whole = number.get("type").is_some_and(|kind| kind == "integer");
    number.insert(name.to_owned(), if is_whole { json!(value as i64) } else { json!(value) });
}

/// The schema as the types give it, each table in place.
fn types() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().into()
}

fn one_line(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text as comment lines.
fn comment(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::from("#"));
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;
    use super::*;

    #[test]
    fn a_commented_configuration_is_the_configuration() {
        let mut config = Config::default();
        (config.model.window_ms, config.optimiser.learning_rate) = (123.456, 1e-7);
        config.teacher.epochs.clear();
        let text = commented(&config).unwrap();
        let read = ConfigFile::of(toml::from_str(&text).unwrap()).over(&Config::default()).unwrap();
        assert_eq!(read, config);
        assert_eq!(commented(&read).unwrap(), text);
        assert!(text.contains("# Width of the residual stream. (1 to 4096)\nwidth = 64\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 2 * COLUMNS), "{text}");
    }

    #[test]
    fn every_key_has_a_meaning_and_every_word_is_one_that_the_configuration_takes() {
        // Names in a recording, which may be anything.
        let names = ["data.split-column", "data.train", "data.val", "data.test", "data.condition-column"];
        let defaults = Config::default().table().unwrap();
        for (key, Meaning { text, words }) in KEYS.iter().zip(meanings()) {
            assert!(text.ends_with('.'), "{}: {text}", key.name);
            let is_choice = key.value(&defaults).unwrap().is_str() && !names.contains(&key.name);
            assert_eq!(words.is_empty(), !is_choice, "{}", key.name);
            for (word, _) in words {
                let (table, name) = key.name.split_once('.').unwrap();
                let text = format!("[{table}]\n{name} = \"{word}\"");
                ConfigFile::of(toml::from_str(&text).unwrap()).over(&Config::default()).unwrap();
            }
        }
    }

    #[test]
    fn the_schema_has_bounds_and_refuses_unknown_keys() {
        let schema = schema();
        let layers = &schema["properties"]["model"]["properties"]["layers"];
        assert_eq!((layers["minimum"].as_i64(), layers["maximum"].as_i64()), (Some(1), Some(64)));
        assert_eq!(schema["properties"]["teacher"]["properties"]["epochs"]["items"]["minimum"], 1);
        assert_eq!(schema["properties"]["model"]["additionalProperties"], false);
        assert_eq!(schema["additionalProperties"], false);
    }
}

//! A configuration file: the choices that its author has made, over defaults from elsewhere.

use super::Config;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The keys of a configuration file that has been read, or of a table from elsewhere. Keys that it leaves out have default values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigFile {
    /// Path of the file, for messages.
    pub path: PathBuf,
    /// The keys and their values.
    table: Table,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Path of the configuration file.
        path: PathBuf,
        /// The system's error message.
        error: std::io::Error,
    },
    /// The text of the file is not a configuration.
    #[error("{path}: expected a training configuration, found {found}")]
    Format {
        /// Path of the configuration file.
        path: PathBuf,
        /// The parser's message.
        found: String,
    },
    /// Some values are out of range or contradict each other.
    #[error("{}", .0.join("; "))]
    Check(Vec<String>),
}

impl ConfigFile {
    /// Reads a configuration file. It is read once, so that it may be a pipe.
    ///
    /// # Errors
    /// [`ConfigError::Io`], or [`ConfigError::Format`] for an unknown key or a value of the wrong type.
    pub fn read(path: &Path) -> Result<ConfigFile, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        let table = toml::from_str(&text).map_err(|error| format(path, &error))?;
        let file = ConfigFile { path: path.to_owned(), table };
        // The file is parsed by itself, so that an unknown key is named as it stands there.
        toml::from_str::<Config>(&text).map_err(|error| format(path, &error))?;
        Ok(file)
    }

    /// The choices of a table, such as a point of a sweep. They are checked by [`ConfigFile::over`].
    pub fn of(table: Table) -> ConfigFile {
        ConfigFile { path: PathBuf::new(), table }
    }

    /// Whether the file chooses nothing, so that all values are defaults.
    pub fn is_empty(&self) -> bool {
        self.table.values().all(|value| value.as_table().is_some_and(Table::is_empty))
    }

    /// Whether the file sets this key, such as `model.width`.
    pub fn sets(&self, key: &str) -> bool {
        let (table, key) = key.split_once('.').unwrap_or((key, ""));
        self.table.get(table).is_some_and(|table| table.get(key).is_some())
    }

    /// The values of the file over these defaults. The values are not checked against each other.
    ///
    /// # Errors
    /// [`ConfigError::Format`].
    pub fn over(&self, defaults: &Config) -> Result<Config, ConfigError> {
        let mut table = defaults.table()?;
        override_with(&mut table, self.table.clone());
        table.try_into().map_err(|error| format(&self.path, &error))
    }
}

fn format(path: &Path, error: &toml::de::Error) -> ConfigError {
    ConfigError::Format { path: path.to_owned(), found: error.message().replace('\n', " ") }
}

/// Replaces the values of `lower` by those that `upper` has, table by table.
fn override_with(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => override_with(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_a_file_does_not_have_are_those_of_the_given_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit.toml");
        let mut defaults = Config::default();
        (defaults.objective.coordinated_dropout, defaults.optimiser.batch_trials) = (0.5, 8);
        std::fs::write(&path, "[objective]\nredrawn = 0.0\n[velocity]\nlags-ms = [60.0]\n").unwrap();
        let file = ConfigFile::read(&path).unwrap();
        let mut expected = defaults.clone();
        expected.objective.redrawn = 0.0;
        expected.readouts.lags_ms = vec![60.0];
        assert_eq!(file.over(&defaults).unwrap(), expected);
        assert!(file.sets("objective.redrawn") && !file.sets("objective.jitter-ms") && !file.is_empty());

        std::fs::write(&path, "[objective]\nredrawm = 0.0\n").unwrap();
        let error = ConfigFile::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("expected a training configuration, found unknown field `redrawm`"),
            "{error}"
        );
        std::fs::write(&path, "# nothing yet\n[model]\n").unwrap();
        assert!(ConfigFile::read(&path).unwrap().is_empty());
    }
}

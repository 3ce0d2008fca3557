//! The configuration's page, example and schema are those that the types make. `UPDATE_DOCS=1 cargo test -p ndt-trainer --test
//! configuration` writes them anew.

use ndt_trainer::config::{Config, ConfigFile, KEYS, schema};
use ndt_trainer::recipe::{Recipe, example, reference_page};
use std::path::Path;

/// Compares a file of the trainer with what it should be, or writes it.
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} differs from the types; UPDATE_DOCS=1 writes it anew");
}

#[test]
fn page_example_and_schema_are_made_from_the_types() {
    check("docs/configuration.md", &reference_page().unwrap());
    check("train.example.toml", &example().unwrap());
    check("train.schema.json", &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"));
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let file = ConfigFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("train.example.toml")).unwrap();
    assert!(KEYS.iter().all(|key| file.sets(key.name)));
    assert_eq!(file.over(&Config::default()).unwrap(), Config::default());
    Recipe { config: Some(file), ..Recipe::default() }.check().unwrap();
}

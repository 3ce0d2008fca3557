//! What `trainer/MODEL.md` names exists: functions and types in the files that it links, keys in the configuration, with their
//! defaults.

use crate::pages::links;
use ndt_tests::workspace;
use ndt_trainer::config::Config;
use std::collections::BTreeMap;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap()
}

/// Every key of the configuration with its default, as `section.key`.
fn keys() -> BTreeMap<String, String> {
    let table = serde_json::to_value(Config::default()).unwrap();
    let mut keys = BTreeMap::new();
    for (section, values) in table.as_object().unwrap() {
        for (key, value) in values.as_object().unwrap() {
            keys.insert(format!("{section}.{key}"), value.to_string().replace(',', ", "));
        }
    }
    keys
}

/// The texts in backquotes.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether a source file defines something of this name.
fn defines(source: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "const", "trait", "impl", "def"].iter().any(|keyword| {
        source.match_indices(&format!("{keyword} {name}")).any(|(at, found)| {
            !source[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    })
}

#[test]
fn every_function_that_the_page_of_the_model_names_is_in_the_file_that_it_links() {
    let page = read("trainer/MODEL.md");
    let (mut checked, mut missing) = (0, Vec::new());
    let sources = links(&page).filter(|link| link.ends_with(".rs") || link.ends_with(".py"));
    for link in sources.collect::<std::collections::BTreeSet<_>>() {
        let source = read(&format!("trainer/{link}"));
        let target = format!("]({link})");
        let before = page.match_indices(&target).map(|(at, _)| &page[..at]);
        // A link's text: `function`, `Type::function`, or the file's own name.
        for name in before.filter_map(|before| before.rsplit_once("[`")?.1.strip_suffix('`')) {
            checked += 1;
            let is_file = link.ends_with(&format!("/{name}"));
            if !is_file && !name.split("::").all(|part| defines(&source, part)) {
                missing.push(format!("{name} in {link}"));
            }
        }
    }
    assert!(checked > 25, "the page names {checked} functions");
    assert!(missing.is_empty(), "expected to find\n{}", missing.join("\n"));
}

#[test]
fn every_key_that_the_page_of_the_model_names_is_in_the_configuration_with_this_default() {
    let (page, keys) = (read("trainer/MODEL.md"), keys());
    let sections: Vec<&str> = keys.keys().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    let is_key = |text: &&str| text.split_once('.').is_some_and(|(section, _)| sections.contains(&section));
    let named: Vec<&str> = quoted(&page).filter(is_key).collect();
    let unknown: Vec<&&str> = named.iter().filter(|key| !keys.contains_key(**key)).collect();
    assert!(unknown.is_empty() && named.len() > 30, "of {} keys unknown: {unknown:?}", named.len());

    let (_, defaults) = page.split_once("## Defaults").unwrap();
    let (defaults, _) = defaults.split_once("\n## ").unwrap();
    let mut told = 0;
    for row in defaults.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for pair in [&cells[1..3], &cells[4..6]] {
            let (key, value) = (pair[0].trim_matches('`'), pair[1]);
            assert_eq!(keys.get(key).map(String::as_str), Some(value), "default of {key}");
            told += 1;
        }
    }
    assert!(told > 10, "the page tells {told} defaults");
}

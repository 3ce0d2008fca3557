//! Phrases that readers had to decode, and that must not come back.

use crate::files;

/// What may not stand in a comment, a message, a help text or a page, and what says it plainly.
const PHRASES: [(&str, &str); 12] = [
    ("comes before the configuration", "overrides the configuration"),
    ("come before it", "override it"),
    ("which they are.", "say which, in full"),
    ("/// which.", "say which, in full"),
    ("/// when.", "say at which instant, by which clock"),
    ("/// where.", "say where"),
    ("/// they.", "say who"),
    ("/// has one.", "say who has what"),
    ("what it has to be better than", "the baselines"),
    ("what a transformer has to be better than", "the baselines"),
    ("is said of", "the estimate of"),
    ("defaults of a name", "named preset"),
];

#[test]
fn phrases_that_had_to_be_decoded_do_not_come_back() {
    let mut found = Vec::new();
    for ending in ["rs", "md", "toml", "py"] {
        for (file, text) in files(ending).iter().filter(|(file, _)| !file.starts_with("tests/tests/tidy/")) {
            for (at, line) in text.lines().enumerate() {
                let line = line.to_lowercase();
                let phrases = PHRASES.iter().filter(|(phrase, _)| line.contains(phrase));
                found.extend(
                    phrases.map(|(phrase, plain)| format!("{file}:{}: \"{phrase}\": {plain}", at + 1)),
                );
            }
        }
    }
    assert!(found.is_empty(), "to be said plainly:\n{}", found.join("\n"));
}

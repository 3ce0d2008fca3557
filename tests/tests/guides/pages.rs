//! Every page of the repository can be followed: its links lead somewhere, the programs that it shows are the files that the
//! tests run, and the commands that it tells a reader to type have the options that it gives them.

use ndt_protocol::Reasons;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_tests::{program, workspace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const PROGRAMS: [&str; 3] = ["ndtd", "ndt-train", "ndt-replay"];

/// The path and the text of every page.
fn pages() -> Vec<(PathBuf, String)> {
    let root = workspace();
    let mut paths = vec![root.join("README.md")];
    for folder in ["protocol", "daemon", "trainer", "replay", "tests"] {
        walk(&root.join(folder), &mut paths);
    }
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            paths.push(path);
        }
    }
}

/// A fenced block: the line above it, its language and its text.
struct Block<'a> {
    above: &'a str,
    language: &'a str,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut above, mut inside) = (Vec::new(), "", None::<Block<'_>>);
    for line in page.lines() {
        match (line.strip_prefix("```"), inside.take()) {
            (Some(language), None) => inside = Some(Block { above, language, text: String::new() }),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                inside = Some(block);
            }
            (None, None) => above = line,
        }
    }
    blocks
}

/// Writes a program of a page to a file of this name in a folder, as a reader does. The line above its block names the file.
pub fn saved_from(page: &str, name: &str, folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(workspace().join(page)).unwrap();
    let blocks = blocks(&text);
    let named = blocks.iter().find(|block| block.above.contains(&format!("Save this as `{name}`")));
    let program = named.unwrap_or_else(|| panic!("expected a block for {name} in {page}, found none"));
    let path = folder.join(name);
    std::fs::write(&path, &program.text).unwrap();
    path
}

/// The targets of a page's links and pictures.
pub fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut broken = Vec::new();
    for (path, page) in pages() {
        for link in links(&page).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let text =
                if target.is_dir() { Some(String::new()) } else { std::fs::read_to_string(&target).ok() };
            let has_heading =
                |text: String| heading.is_empty() || text.lines().any(|line| anchor(line) == heading);
            if !text.is_some_and(has_heading) {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// The anchor that a heading gets; empty of any other line.
fn anchor(line: &str) -> String {
    let Some(heading) = line.strip_prefix('#') else { return String::new() };
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    heading.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

#[test]
fn programs_that_pages_show_are_the_files_that_are_tested() {
    let mut shown = 0;
    for (path, page) in pages() {
        for block in blocks(&page) {
            let Some(file) = block.above.strip_prefix("<!-- ").and_then(|above| above.strip_suffix(" -->"))
            else {
                continue;
            };
            shown += 1;
            let text = std::fs::read_to_string(workspace().join(file)).unwrap();
            assert!(
                text.contains(&block.text),
                "{}: expected lines of {file}, found\n{}",
                path.display(),
                block.text
            );
        }
    }
    assert!(shown > 0, "no page shows a program");
}

#[test]
fn the_glossary_lists_every_quantity_with_its_unit_and_the_series_it_comes_from() {
    let glossary = std::fs::read_to_string(workspace().join("daemon/docs/glossary.md")).unwrap();
    for quantity in Quantity::ALL {
        let row = format!("| `{}` | {} | ", quantity.series(), quantity.unit());
        let found = glossary.lines().find(|line| line.starts_with(&row));
        let found = found.unwrap_or_else(|| panic!("expected a row \"{row}...\" in glossary.md, found none"));
        for series in quantity.recorded_series() {
            assert!(found.contains(&format!("`{series}`")), "expected `{series}` in the row: {found}");
        }
    }
}

#[test]
fn every_reason_of_an_estimate_is_explained() {
    let page = std::fs::read_to_string(workspace().join("daemon/docs/deadline-and-policy.md")).unwrap();
    for name in Reasons(u32::MAX).names() {
        let row = page.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{name}`")));
        assert!(row.is_some(), "expected a row about {name} in deadline-and-policy.md, found none");
    }
}

#[test]
fn commands_that_pages_give_have_their_options() {
    let mut help: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        for block in blocks(&page).iter().filter(|block| block.language == "sh") {
            for words in commands(&block.text) {
                let depth = if words.get(1).is_some_and(|word| word == "nlb") { 3 } else { 2 };
                let command = words[..depth.min(words.len())].to_vec();
                let text = help.entry(command.clone()).or_insert_with(|| help_of(&command));
                let options = words.iter().filter(|word| word.starts_with("--"));
                let unknown = options
                    .map(|word| word.split('=').next().unwrap())
                    .filter(|option| !text.split([' ', ',', '\n', '=']).any(|word| word == *option));
                wrong.extend(
                    unknown.map(|option| format!("{}: {} {option}", path.display(), command.join(" "))),
                );
            }
        }
    }
    assert!(help.len() > 5, "expected pages that give commands, found {}", help.len());
    assert!(wrong.is_empty(), "options that do not exist:\n{}", wrong.join("\n"));
}

/// The words of each of our commands in a block, from the program's name on.
fn commands(block: &str) -> Vec<Vec<String>> {
    let lines = block.replace("\\\n", " ");
    let without_comment = |line: &str| line.split(" #").next().unwrap_or("").to_owned();
    let parts = lines.lines().map(without_comment).collect::<Vec<_>>().join("\n");
    let parts = parts.split(['\n', ';', '|', '&']);
    let words = parts.map(|part| part.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let from_program = |words: Vec<String>| {
        // `sudo ndtd run` is a command of ours, `journalctl -u ndtd` is not.
        let at = words.iter().position(|word| word != "sudo" && !word.contains('='))?;
        PROGRAMS.contains(&words[at].as_str()).then(|| words[at..].to_vec())
    };
    words.filter_map(from_program).collect()
}

pub fn help_of(command: &[String]) -> String {
    let shown = Command::new(program(&command[0])).args(&command[1..]).arg("--help").output().unwrap();
    assert!(shown.status.success(), "expected help of {}, found {shown:?}", command.join(" "));
    String::from_utf8(shown.stdout).unwrap()
}

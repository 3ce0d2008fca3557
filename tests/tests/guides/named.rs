//! What a reader can choose is named where he looks for it: in the help text, in the example configuration and on a page.
//!
//! The names come from the tables of the code, so that a new one is asked for at each of these places.

use crate::pages::{PROGRAMS, help_of};
use ndt_daemon::engine::EngineKind;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_protocol::bundle::precision::Precision;
use ndt_tests::endpoints::{INPUTS, OUTPUTS, scheme};
use ndt_tests::workspace;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap()
}

fn help(command: &str) -> String {
    help_of(&command.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

/// The lines of a help text about one option.
fn of_option<'a>(help: &'a str, option: &str) -> &'a str {
    let (_, rest) = help.split_once(&format!(" --{option} ")).unwrap();
    rest.split("\n      --").next().unwrap()
}

/// The paragraph of the example configuration about a key.
fn of_key<'a>(example: &'a str, key: &str) -> &'a str {
    let sets = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
    example.split("\n\n").find(|paragraph| paragraph.lines().any(sets)).unwrap()
}

/// Fails if a name is missing in the text of a place.
fn expect(names: &[String], places: &[(&str, &str)]) {
    let mut missing = Vec::new();
    for (place, text) in places {
        // `avx512` is not named by `avx512-bf16`, but `lsl:` is by `lsl:NAME`.
        let goes_on = |c: char| c.is_alphanumeric() || c == '-';
        let ends = |name: &str, after: &str| name.ends_with(':') || !after.starts_with(goes_on);
        let is_there =
            |name: &str| text.match_indices(name).any(|(at, _)| ends(name, &text[at + name.len()..]));
        missing.extend(names.iter().filter(|name| !is_there(name)).map(|name| format!("{name} in {place}")));
    }
    assert!(missing.is_empty(), "expected to read of\n{}", missing.join("\n"));
}

#[test]
fn every_scheme_is_named_in_the_help_in_the_example_and_on_a_page() {
    let (help, example) = (help("ndtd run"), read("daemon/ndtd.example.toml"));
    let folder = std::fs::read_dir(workspace().join("protocol")).unwrap().flatten();
    let names = folder.map(|entry| entry.file_name().into_string().unwrap());
    let pages: String =
        names.filter(|name| name.ends_with(".md")).map(|name| read(&format!("protocol/{name}"))).collect();
    for (side, endpoints) in
        [("input", INPUTS.map(|(input, _)| input).to_vec()), ("output", OUTPUTS.to_vec())]
    {
        let schemes: Vec<String> = endpoints.into_iter().map(|text| format!("{}:", scheme(text))).collect();
        expect(
            &schemes,
            &[
                (&format!("--{side} of ndtd run --help"), of_option(&help, side)),
                (&format!("the paragraph of {side} in ndtd.example.toml"), of_key(&example, side)),
                ("a page of protocol/", &pages),
            ],
        );
    }
}

#[test]
fn every_engine_precision_and_instruction_set_is_named_in_the_help_and_in_the_example() {
    let (run, check, example) = (help("ndtd run"), help("ndtd check"), read("daemon/ndtd.example.toml"));
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (option, help, names) in [
        ("engine", &run, owned(&EngineKind::ALL.map(EngineKind::name))),
        ("engine", &check, owned(&EngineKind::ALL.map(EngineKind::name))),
        ("precision", &run, owned(&Precision::ALL.map(Precision::name))),
        ("instruction-set", &check, owned(&InstructionSet::ALL.map(InstructionSet::name))),
    ] {
        let places = [
            (format!("the help of --{option}"), of_option(help, option)),
            (format!("the paragraph of {option} in ndtd.example.toml"), of_key(&example, option)),
        ];
        expect(&names, &places.each_ref().map(|(place, text)| (place.as_str(), *text)));
    }
}

#[test]
fn every_option_has_a_help_text() {
    let (mut silent, mut options) = (Vec::new(), 0);
    let mut commands: Vec<String> = PROGRAMS.map(str::to_owned).to_vec();
    while let Some(command) = commands.pop() {
        let help = help(&command);
        if let Some((_, rest)) = help.split_once("\nCommands:\n") {
            let names = rest.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
                let name = line.strip_prefix("  ")?.split_whitespace().next()?;
                // A longer description goes on in lines that are indented further.
                (!line.starts_with("   ") && name != "help").then(|| format!("{command} {name}"))
            });
            commands.extend(names);
        }
        // Before the examples at the end, which are not indented.
        let (_, section) = help.split_once("\nOptions:\n").unwrap();
        let mut lines =
            section.lines().take_while(|line| line.is_empty() || line.starts_with("  ")).peekable();
        while let Some(line) = lines.next() {
            let option = line.trim_start();
            let is_short = option.starts_with('-') && option.contains(", --");
            if !is_short && !option.starts_with("--") {
                continue;
            }
            options += 1;
            let is_text = |next: &&str| next.starts_with("          ") && !next.trim().is_empty();
            let is_below = lines.peek().is_some_and(is_text);
            if !option.contains("  ") && !is_below {
                silent.push(format!("{command}: {option}"));
            }
        }
    }
    assert!(options > 50, "expected the options of every command, found {options}");
    assert!(silent.is_empty(), "options without a help text:\n{}", silent.join("\n"));
}

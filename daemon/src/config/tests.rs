//! Reading and checking a configuration, and the sentences about a wrong one.

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ndtd.toml");
    std::fs::write(&path, text).unwrap();
    Config::read(&path)
}

fn sentence(text: &str) -> String {
    let error = read(text).unwrap_err().to_string();
    error.split_once("ndtd.toml: ").unwrap().1.to_owned()
}

#[test]
fn the_shipped_example_documents_the_defaults() {
    let text = include_str!("../../ndtd.example.toml");
    let expected = Config { bundle: "/var/lib/ndtd/model".into(), ..Config::default() };
    assert_eq!(read(text).unwrap(), expected);
    expected.check().unwrap();
    // Keys without a default are shown too, commented out.
    let is_key = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let shown = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    let lines = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let all: Vec<&str> = lines.filter(|line| line.starts_with('[') || shown(line)).collect();
    let all = read(&all.join("\n")).unwrap();
    assert_eq!((all.deadline_ms, all.speed_max_m_per_s), (Some(20.0), Some(1.5)));
    assert!(all.acceleration_max_m_per_s2.is_some() && all.onnxruntime_library.is_some());
    assert_eq!(all.fallback_bundle, Some("/var/lib/ndtd/linear".into()));
}

/// A session log holds the configuration, from which the session is computed again.
#[test]
fn a_configuration_is_read_again_from_what_is_written_of_it() {
    let text = include_str!("../../ndtd.example.toml");
    let mut all = read(text).unwrap();
    all.outputs = vec!["tcp://127.0.0.1:1".parse().unwrap(), "lsl:arm".parse().unwrap()];
    (all.input, all.mask_channels) = ("lsl:type=BinnedSpikes".parse().unwrap(), vec![-3, 7]);
    (all.deadline_ms, all.speed_max_m_per_s, all.record) = (Some(12.5), Some(0.1), Some("sessions".into()));
    all.fallback_bundle = Some("linear".into());
    for config in [Config::default(), all] {
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap(), config, "{written}");
    }
}

/// The keys of a table of the configuration, as the parser lists them when it finds another one.
fn keys(table: &str) -> Vec<String> {
    let error = sentence(&format!("{table}\nnone-of-them = 0\n"));
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_stands_in_the_shipped_example_even_one_without_a_default() {
    let text = include_str!("../../ndtd.example.toml");
    let mut sections = text.split("\n[");
    let mut missing = Vec::new();
    let mut expect = |table: &str, section: &str| {
        let shown = |key: &str| {
            section.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")))
        };
        let is_table = |key: &str| text.contains(&format!("\n[{key}]\n"));
        let keys = keys(table);
        assert!(!keys.is_empty(), "no keys of \"{table}\"");
        missing.extend(
            keys.into_iter().filter(|key| !shown(key) && !is_table(key)).map(|key| format!("{table}{key}")),
        );
    };
    expect("", sections.next().unwrap());
    for section in sections {
        expect(&format!("[{}]", section.split(']').next().unwrap()), section);
    }
    assert!(missing.is_empty(), "keys that ndtd.example.toml does not show: {}", missing.join(", "));
}

#[test]
fn an_unknown_key_or_a_wrong_value_is_told_with_its_line() {
    let found = sentence("engine = \"native\"\nengin = \"native\"\n");
    assert!(
        found.starts_with("expected a configuration as in ndtd.example.toml, found unknown field `engin`")
    );
    assert!(found.ends_with(" in line 2"), "{found}");
    let found = sentence("\ninput = \"pigeon://rig:1\"\n");
    assert!(found.contains("expected an endpoint such as") && found.ends_with(" in line 2"), "{found}");
    assert!(sentence("[realtime]\nprio = 3\n").contains("unknown field `prio`"));
    assert!(sentence("[onnx]\nthreads = 3\n").contains("unknown field `threads`"));
    let found = sentence("[onnx]\nprovider = \"tensorrt\"\n");
    assert!(found.contains("unknown variant `tensorrt`") && found.ends_with(" in line 2"), "{found}");
}

#[test]
fn one_output_or_several_are_read_and_a_stream_among_them_has_only_a_name() {
    let outputs = |text: &str| read(text).unwrap().outputs.iter().map(Output::to_string).collect::<Vec<_>>();
    assert_eq!(outputs("output = \"tcp://a:1\"\n"), ["tcp://a:1"]);
    assert_eq!(outputs("output = [\"tcp://a:1\", \"lsl:arm\"]\n"), ["tcp://a:1", "lsl:arm"]);
    assert!(sentence("output = 3\n").contains("expected an endpoint or a list of them"));
    assert!(
        sentence("output = \"lsl:type=x\"\n").contains("expected lsl:NAME as an output, found lsl:type=x")
    );
    let config = read("output = [\"lsl\", \"lsl\"]\n[lsl]\nbuffer-bins = 0\n").unwrap();
    let problems = config.check().unwrap_err().to_string();
    for expected in ["found lsl:ndtd twice", "buffer-bins in [lsl]"] {
        assert!(problems.contains(expected), "{expected} in {problems}");
    }
}

#[test]
fn a_mistyped_log_level_is_refused_and_not_taken_for_a_module() {
    let problems = |log: &str| {
        let config = Config { bundle: "model".into(), log: log.to_owned(), ..Config::default() };
        config.check().err().map(|error| error.to_string())
    };
    for log in ["info", "WARN", "warn,ndt_daemon=debug", "off"] {
        assert_eq!(problems(log), None, "{log}");
    }
    for (log, found) in [("warning", "warning"), ("info, loud", "loud")] {
        assert!(problems(log).unwrap().ends_with(&format!("found \"{found}\"")), "{log}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let config =
        read("output = \"tcp://127.0.0.1:5570\"\nstale-after-bins = 0\ndeadline-ms = -1.0\nlog = \"=\"\n");
    let mut config = config.unwrap();
    config.onnx.intra_op_threads = 0;
    config.keep_warm_ms = 3_600_000;
    let problems = config.check().unwrap_err().to_string();
    for expected in [
        "a bundle",
        "different addresses",
        "stale-after-bins",
        "deadline-ms",
        "keep-warm-ms",
        "a log filter",
        "onnx.intra-op-threads",
    ] {
        assert!(problems.contains(&format!("expected {expected}")), "{expected} in {problems}");
    }
}

#[test]
fn every_key_that_cannot_be_read_is_told_at_once_with_its_line() {
    let text = "engin = \"native\"\nkeep-warm-ms = \"two\"\nstale-after-bins = 7\n[realtime]\nprio = 3\npriority = 80\n\
                lock-memory = 1\n[lls]\nname = 1\nother = 2\n[lsl]\nbuffer-bins = -1\n";
    let found = sentence(text);
    let expected = [
        "unknown field `engin` in line 1",
        "invalid type: string \"two\", expected u64 in line 2",
        "unknown field `prio` in line 5",
        "invalid type: integer `1`, expected a boolean in line 7",
        "unknown field `lls` in line 8",
        "in line 12",
    ];
    assert_eq!(found.split("; ").count(), expected.len(), "{found}");
    for (problem, expected) in found.split("; ").zip(expected) {
        assert!(problem.ends_with(expected), "expected {expected}, found {problem}");
    }
    // What can be read is there all the same.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ndtd.toml");
    std::fs::write(&path, text).unwrap();
    let (config, problems) = Config::read_all(&path).unwrap();
    assert_eq!((config.stale_after_bins, config.realtime.priority, problems.len()), (7, 80, 6));
    assert_eq!(config.lsl, LslSettings::default());
    // Without the syntax of TOML there are no keys.
    assert!(sentence("bundle = 3 4\n").ends_with(" in line 1"));
}

use super::super::schedule::{Length, Schedule};
use super::super::tally::Answer;
use super::*;
use crate::host::machine::Preemption;

fn measured(transport: Transport, load: Load) -> Measured {
    let schedule = Schedule::new(20_000_000, load, Length::Bins(30));
    let mut tally = Tally::new(schedule, 20_000_000);
    for seq in (0..schedule.periods()).filter(|seq| schedule.is_sent(*seq)) {
        let due_ns = schedule.due_ns(seq);
        tally.take(&Answer {
            seq,
            due_ns,
            arrival_ns: due_ns + 50_000,
            decoded_ns: due_ns + 150_000,
            published_ns: due_ns + 160_000,
            received_ns: (transport == Transport::Loopback).then_some(due_ns + 260_000),
            quality: if seq == 60 { Quality::Late } else { Quality::Good },
        });
    }
    Measured::new(transport, &tally, 0)
}

fn report() -> Report {
    Report {
        version: "1.2.3",
        date_unix_s: 1_700_000_000,
        machine: Machine {
            cpu: "A CPU".to_owned(),
            cpus: 4,
            virtual_machine: false,
            kernel: "6.1.0".to_owned(),
            preemption: Preemption::Realtime,
            governor: Some("performance".to_owned()),
            clocksource: None,
        },
        engine: "native f32 avx2".to_owned(),
        bundle: "0123456789abcdef".to_owned(),
        bin_width_ms: 20.0,
        deadline_ms: 10.0,
        load: Load::IdleGap,
        pages: 0,
        realtime: realtime::RealtimeSettings { priority: 60, cpus: vec![2, 3], ..Default::default() },
        refused: vec!["ndt-source: expected more, found less".to_owned()],
        measured: vec![
            measured(Transport::InProcess, Load::None),
            measured(Transport::Loopback, Load::IdleGap),
        ],
    }
}

fn keys(json: &serde_json::Value) -> Vec<&str> {
    json.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_keys_of_the_json_are_a_format() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(
        keys(&json),
        [
            "bin-width-ms",
            "bundle",
            "date-unix-s",
            "deadline-ms",
            "engine",
            "load",
            "machine",
            "measured",
            "pages",
            "realtime",
            "refused",
            "version"
        ]
    );
    let settings = ["cpus", "lock-memory", "prefault-stack-kb", "priority", "timer-slack-ns"];
    assert_eq!(keys(&json["realtime"]), settings);
    assert_eq!((&json["engine"], &json["load"]), (&"native f32 avx2".into(), &"idle-gap".into()));
    let measured = &json["measured"][1];
    assert_eq!(
        keys(measured),
        [
            "behind",
            "bins",
            "decoded-to-transport",
            "latencies-us",
            "miss-rate",
            "missed",
            "overflowed",
            "qualities",
            "repeated",
            "transport",
            "unanswered",
            "without-bin"
        ]
    );
    assert_eq!(keys(&measured["qualities"]), ["fault", "gap", "good", "late", "stale", "warmup"]);
    let row = &measured["latencies-us"][0];
    assert_eq!(keys(row), ["bins", "percentiles", "stage"]);
    assert_eq!((&row["bins"], &row["stage"]), (&"after-gap".into(), &"due-to-arrival".into()));
    assert_eq!(keys(&row["percentiles"]), ["count", "max", "p50", "p90", "p99", "p99.9"]);
}

#[test]
fn the_table_says_where_and_what_and_how_long() {
    let text = report().to_string();
    for expected in [
        "ndtd 1.2.3 on Linux 6.1.0: A CPU, 4 CPUs\n",
        "kernel      preemption PREEMPT_RT, governor performance, clock unknown\n",
        "real time   asked for SCHED_FIFO 60, CPUs [2, 3], memory not locked\n",
        "refused     ndt-source: expected more, found less\n",
        "bundle      0123456789ab, 20 ms bins, deadline 10 ms, engine native f32 avx2\n",
        "\n\nin-process: 30 bins, 1 missed (3.333 %): good 29, late 1\n",
        "\n  us                              count       p50       p90       p99     p99.9       max\n",
        "\n  due -> arrival                     30      50.0      50.0      50.0      50.0      50.0\n",
        "\n\nloopback: 30 bins, 1 missed (3.333 %)",
        "\n  first bins after a gap, us      count",
        "\n  other bins, us                  count",
        "\n  published -> received              28     100.0",
        "\n  decoding takes 0.67 times what the transport takes, in and out (p50)",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let in_process = text.split("loopback").next().unwrap();
    assert!(!in_process.contains("received") && !in_process.contains("not answered"), "{in_process}");
}

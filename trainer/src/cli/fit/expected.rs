//! What is to be expected of a bundle at a rig: its scores on the trials that chose it, and on those that nothing has seen.

use crate::cli::report::interval;
use ndt_protocol::Bundle;
use ndt_replay::session::Session;
use ndt_trainer::evaluation::{EvaluateError, Evaluation, History, evaluate_after};

/// The evaluations of a bundle on validation and test, from cold starts and in a stream, for each recording in turn. A recording without
/// a test has none of it.
pub fn evaluations(bundle: &Bundle, sessions: &[Session]) -> Result<Vec<Evaluation>, EvaluateError> {
    let mut evaluations = Vec::new();
    for session in sessions {
        for split in ["val", "test"] {
            for history in [History::Cold, History::Stream] {
                match evaluate_after(bundle, session, split, history) {
                    Err(EvaluateError::Select(_)) => {}
                    evaluation => evaluations.push(evaluation?),
                }
            }
        }
    }
    Ok(evaluations)
}

/// The evaluations in lines: validation as what the model was selected on, test as what is to be expected.
pub fn lines(evaluations: &[Evaluation]) -> Vec<String> {
    let line = |evaluation: &Evaluation| {
        let part = match evaluation.split.as_str() {
            "val" => "selected on validation",
            _ => "to be expected (test)",
        };
        let after = match evaluation.history {
            History::Cold => "cold",
            History::Stream => "stream",
        };
        let bits = evaluation
            .co_bps
            .map(|score| format!("  co-bps {score:.4}{}", interval(evaluation.co_bps_interval)));
        let first = evaluation.readouts.first();
        let r2 = first.and_then(|first| {
            Some(format!("  {} R2 {:.4}{}", first.series, first.mean?, interval(first.interval)))
        });
        format!("{part}, {after}:{}{}", bits.unwrap_or_default(), r2.unwrap_or_default())
    };
    let mut lines: Vec<String> = evaluations.iter().map(line).collect();
    if !evaluations.iter().any(|evaluation| evaluation.split == "test") {
        lines.push("to be expected (test): unknown, because the recording has no test".to_owned());
    }
    lines
}

//! What differs between two configurations.

use super::Config;

impl Config {
    /// Returns the keys and sections, as the file names them and in its order, in which `other` differs.
    pub fn changed_keys(&self, other: &Config) -> Vec<&'static str> {
        // Taken apart without a rest, so that a new key is not forgotten here.
        let Config {
            bundle,
            input,
            outputs,
            engine,
            instruction_set,
            precision,
            velocity_lag_ms,
            fallback_bundle,
            deadline_ms,
            max_age_ms,
            keep_warm_ms,
            policy,
            decay_time_constant_ms,
            stale_after_bins,
            speed_max_m_per_s,
            acceleration_max_m_per_s2,
            mask_channels,
            max_masked_share,
            start_paused,
            control_socket,
            control_group,
            onnxruntime_library,
            onnx,
            ipc,
            zeromq,
            lsl,
            realtime,
            log,
        } = other;
        let compared = [
            ("bundle", self.bundle == *bundle),
            ("input", self.input == *input),
            ("output", self.outputs == *outputs),
            ("engine", self.engine == *engine),
            ("instruction-set", self.instruction_set == *instruction_set),
            ("precision", self.precision == *precision),
            ("velocity-lag-ms", self.velocity_lag_ms == *velocity_lag_ms),
            ("fallback-bundle", self.fallback_bundle == *fallback_bundle),
            ("deadline-ms", self.deadline_ms == *deadline_ms),
            ("max-age-ms", self.max_age_ms == *max_age_ms),
            ("keep-warm-ms", self.keep_warm_ms == *keep_warm_ms),
            ("policy", self.policy == *policy),
            ("decay-time-constant-ms", self.decay_time_constant_ms == *decay_time_constant_ms),
            ("stale-after-bins", self.stale_after_bins == *stale_after_bins),
            ("speed-max-m-per-s", self.speed_max_m_per_s == *speed_max_m_per_s),
            ("acceleration-max-m-per-s2", self.acceleration_max_m_per_s2 == *acceleration_max_m_per_s2),
            ("mask-channels", self.mask_channels == *mask_channels),
            ("max-masked-share", self.max_masked_share == *max_masked_share),
            ("start-paused", self.start_paused == *start_paused),
            ("control-socket", self.control_socket == *control_socket),
            ("control-group", self.control_group == *control_group),
            ("onnxruntime-library", self.onnxruntime_library == *onnxruntime_library),
            ("[onnx]", self.onnx == *onnx),
            ("[ipc]", self.ipc == *ipc),
            ("[zeromq]", self.zeromq == *zeromq),
            ("[lsl]", self.lsl == *lsl),
            ("[realtime]", self.realtime == *realtime),
            ("log", self.log == *log),
        ];
        compared.into_iter().filter(|(_, is_same)| !is_same).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::realtime::RealtimeSettings;

    #[test]
    fn every_key_that_differs_is_named_in_the_order_of_the_file() {
        let before = Config::default();
        assert_eq!(before.changed_keys(&before), Vec::<&str>::new());
        let realtime = RealtimeSettings { priority: 60, ..RealtimeSettings::default() };
        let after = Config { bundle: "other".into(), keep_warm_ms: 3, realtime, ..Config::default() };
        assert_eq!(before.changed_keys(&after), ["bundle", "keep-warm-ms", "[realtime]"]);
    }

    #[test]
    fn the_names_are_those_of_the_file() {
        let example: toml::Table = toml::from_str(include_str!("../../ndtd.example.toml")).unwrap();
        let text = r#"
            bundle = "b"
            stale-after-bins = 9
            log = "debug"
            [onnx]
            intra-op-threads = 3
        "#;
        let changed = Config::default().changed_keys(&toml::from_str(text).unwrap());
        assert_eq!(changed, ["bundle", "stale-after-bins", "[onnx]", "log"]);
        assert!(changed.iter().all(|key| example.contains_key(key.trim_matches(['[', ']']))), "{example}");
    }
}

//! The text format of Prometheus: families of samples, each with its type and help.

use super::super::histogram::Histogram;
use std::fmt::Write;

/// A text that grows by families. Writing into it cannot fail.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    name: String,
}

/// Type of a family.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Rises, and begins at 0 with the daemon.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Exposition {
    /// Begins a family; the samples that follow belong to it.
    pub fn family(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        name.clone_into(&mut self.name);
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample with its labels. A value that is not known is left out.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Option<f64>>) {
        self.part("", labels, value);
    }

    /// Adds the buckets, the sum and the count of a histogram.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            let bound = bound.to_string();
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.part("_bucket", &labels, count as f64);
        }
        let labels_of_all = [labels, &[("le", "+Inf")]].concat();
        self.part("_bucket", &labels_of_all, histogram.count() as f64);
        self.part("_sum", labels, histogram.sum());
        self.part("_count", labels, histogram.count() as f64);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Into<Option<f64>>) {
        let Some(value) = value.into() else { return };
        let name = std::mem::take(&mut self.name);
        self.write(format_args!("{name}{suffix}"));
        for (at, (key, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.write(format_args!("{}{key}=\"{value}\"", if at == 0 { "{" } else { "," }));
        }
        self.write(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
        self.name = name;
    }

    fn write(&mut self, text: std::fmt::Arguments) {
        // A string takes whatever is written.
        self.text.write_fmt(text).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_as_prometheus_reads_it() {
        let mut exposition = Exposition::default();
        exposition.family(Kind::Gauge, "ndtd_a", "What it is.\nAnd \\ more.");
        exposition.sample(&[], 0.5);
        exposition.sample(&[("endpoint", "a\"b\\c"), ("x", "1")], 3.0);
        exposition.sample(&[], None);
        let mut histogram = Histogram::new(&[0.001, 1.0]);
        histogram.add(0.5);
        exposition.family(Kind::Histogram, "ndtd_b_seconds", "Time.");
        exposition.histogram(&[("stage", "decode")], &histogram);
        let expected = "\
# HELP ndtd_a What it is.\\nAnd \\\\ more.
# TYPE ndtd_a gauge
ndtd_a 0.5
ndtd_a{endpoint=\"a\\\"b\\\\c\",x=\"1\"} 3
# HELP ndtd_b_seconds Time.
# TYPE ndtd_b_seconds histogram
ndtd_b_seconds_bucket{stage=\"decode\",le=\"0.001\"} 0
ndtd_b_seconds_bucket{stage=\"decode\",le=\"1\"} 1
ndtd_b_seconds_bucket{stage=\"decode\",le=\"+Inf\"} 1
ndtd_b_seconds_sum{stage=\"decode\"} 0.5
ndtd_b_seconds_count{stage=\"decode\"} 1
";
        assert_eq!(exposition.into_text(), expected);
    }
}

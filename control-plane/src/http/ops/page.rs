//! A page of Prometheus text, format 0.0.4: families with help and type, their samples together, each family once.
//!
//! Sources add samples in any order; a family keeps the place of its first sample. Names are of this program and are checked
//! as they are added; label values may be anything and are escaped.

use dataplane::metrics::{CounterDef, CounterKind};
use std::collections::HashMap;
use std::fmt::{Display, Write};

/// One metric with all its samples.
#[derive(Debug)]
struct Family {
    name: String,
    help: &'static str,
    kind: CounterKind,
    /// Names of the labels, of the first sample.
    labels: Vec<String>,
    samples: String,
}

/// The page.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
    by_name: HashMap<String, usize>,
}

/// A row of the reference: what a metric is, without values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'a [String],
    /// One sentence.
    pub help: &'static str,
}

impl Page {
    /// Adds a sample of a metric.
    ///
    /// # Panics
    /// If the name is none, a counter's does not end in `_total`, or two sources disagree on a metric: both are written here.
    pub fn add(
        &mut self,
        name: &str,
        help: &'static str,
        kind: CounterKind,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => self.begin(name, help, kind, labels),
        };
        let family = &mut self.families[at];
        assert!(family.kind == kind, "{name} is a counter and a gauge");
        let line = &mut family.samples;
        line.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            line.push(before);
            line.push_str(label);
            line.push_str("=\"");
            escape(line, text);
            line.push('"');
        }
        if !labels.is_empty() {
            line.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(line, " {value}");
    }

    /// Adds a counter of a catalogue, as `metanode_<subsystem>_<name>`.
    pub fn add_def(
        &mut self,
        subsystem: &str,
        def: &'static CounterDef,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        self.add(&format!("metanode_{subsystem}_{}", def.name), def.help, def.kind, labels, value);
    }

    /// Adds a gauge.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        self.add(name, help, CounterKind::Gauge, labels, value);
    }

    /// Adds a counter.
    pub fn counter(
        &mut self,
        name: &str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        self.add(name, help, CounterKind::Counter, labels, value);
    }

    fn begin(
        &mut self,
        name: &str,
        help: &'static str,
        kind: CounterKind,
        labels: &[(&str, &str)],
    ) -> usize {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        assert!(!name.is_empty() && name.bytes().all(fits), "{name:?} is no metric's name");
        let counts = kind == CounterKind::Counter;
        assert!(
            name.ends_with("_total") == counts,
            "{name}: counters end in _total, no gauge does"
        );
        let at = self.families.len();
        self.by_name.insert(name.to_owned(), at);
        self.families.push(Family {
            name: name.to_owned(),
            help,
            kind,
            labels: labels.iter().map(|(label, _)| (*label).to_owned()).collect(),
            samples: String::new(),
        });
        at
    }

    /// The text.
    pub fn text(&self) -> String {
        let bytes = self.families.iter().map(|f| f.samples.len() + 160).sum();
        let mut text = String::with_capacity(bytes);
        for family in &self.families {
            let (name, kind) = (&family.name, kind_name(family.kind));
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n", family.help);
            text.push_str(&family.samples);
        }
        text
    }

    /// Every metric, without values.
    pub fn described(&self) -> impl Iterator<Item = Described<'_>> {
        self.families.iter().map(|f| Described {
            name: &f.name,
            kind: kind_name(f.kind),
            labels: &f.labels,
            help: f.help,
        })
    }
}

fn kind_name(kind: CounterKind) -> &'static str {
    match kind {
        CounterKind::Counter => "counter",
        CounterKind::Gauge => "gauge",
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_stands_together_whatever_the_order_of_its_samples() {
        let mut page = Page::default();
        page.counter("a_total", "First.", &[("x", "1\"\\\n")], 5_u64);
        page.gauge("b", "Second.", &[], 0.25);
        page.counter("a_total", "First.", &[("x", "2")], 6_u64);
        let text = "# HELP a_total First.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n\"} 5\na_total{x=\"2\"} 6\n\
                    # HELP b Second.\n# TYPE b gauge\nb 0.25\n";
        assert_eq!(page.text(), text);
        let rows: Vec<_> = page.described().map(|d| (d.name, d.kind, d.labels.len())).collect();
        assert_eq!(rows, [("a_total", "counter", 1), ("b", "gauge", 0)]);
    }

    #[test]
    #[should_panic(expected = "counters end in _total")]
    fn a_counter_without_its_ending_is_refused() {
        Page::default().counter("a", "First.", &[], 1_u64);
    }
}

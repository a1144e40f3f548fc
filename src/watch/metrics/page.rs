//! Prometheus' text format, version 0.0.4. Pure.

use std::fmt::{Display, Write};

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Gauge,
    /// Its name ends in `_total`.
    Counter,
}

/// A value and its labels, as the format has them.
#[derive(Debug)]
pub(super) struct Sample(String);

/// Label names are ours; their values are anybody's.
pub(super) fn sample(labels: &[(&str, &str)], value: impl Display) -> Sample {
    let mut text = String::new();
    for (at, (name, value)) in labels.iter().enumerate() {
        text.push(if at == 0 { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        text.extend(value.chars().flat_map(escaped));
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
    // Writing to a String cannot fail, here and below.
    let _ = write!(text, " {value}");
    Sample(text)
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (before, c) = match c {
        '\\' | '"' => (Some('\\'), c),
        '\n' => (Some('\\'), 'n'),
        c => (None, c),
    };
    before.into_iter().chain([c])
}

/// What is scraped at once.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A metric with its samples; nothing where there are none.
    pub(super) fn add(&mut self, name: &str, kind: Kind, help: &str, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for Sample(sample) in samples {
            let _ = writeln!(self.0, "{name}{sample}");
        }
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_value_stays_in_its_quotes_and_on_its_line() {
        let Sample(text) = sample(&[("link", "a\"} 1\nb{x=\"\\"), ("family", "ipv4")], 0.25);
        assert_eq!(text, r#"{link="a\"} 1\nb{x=\"\\",family="ipv4"} 0.25"#);
        assert_eq!(sample(&[], u64::MAX).0, " 18446744073709551615");
    }

    #[test]
    fn a_metric_has_one_head_and_none_without_samples() {
        let mut page = Page::default();
        page.add("none_total", Kind::Counter, "Nothing.", vec![]);
        page.add("a_total", Kind::Counter, "Things.", vec![sample(&[("x", "1")], 1), sample(&[("x", "2")], 2)]);
        let text = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 2\n";
        assert_eq!(page.text(), text);
    }
}

//! The node's counters, read from `/metrics`. In: the ops port. Out: sums over labels.

use super::wire;
use crate::nodes::NodeError;

/// One reading.
#[derive(Debug)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Reads them now. The port may be crowded; it is tried for a while.
    pub fn read(port: u16) -> Result<Self, NodeError> {
        for _ in 0..100 {
            if let Some(text) = wire::get_text(port, "/metrics") {
                return Ok(Self::parse(&text));
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Err(NodeError(format!("/metrics on port {port} does not answer")))
    }

    fn parse(text: &str) -> Self {
        let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(rows.collect())
    }

    /// Sum of all series whose name ends in `name`'s and which carry every label it names (`name` or `name{label="x"}`), of one
    /// listener if one is named.
    pub fn sum(&self, name: &str, listener: Option<&str>) -> f64 {
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let wanted = labels.trim_end_matches('}');
        let is_wanted = |series: &str| {
            let (got, labels) = series.split_once('{').unwrap_or((series, ""));
            let from = listener.is_none_or(|from| {
                !labels.contains("listener=") || labels.contains(&format!("listener=\"{from}\""))
            });
            got.ends_with(name) && labels.contains(wanted) && from
        };
        self.0.iter().filter(|(series, _)| is_wanted(series)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_the_series_of_a_listener_and_a_label() {
        let text = "# HELP x y\nm_http_refused_total{listener=\"submit\"} 3\n\
                    m_http_refused_total{listener=\"rpc\"} 4\nm_verdicts{verdict=\"bad\",tile=\"a\"} 5\n\
                    m_verdicts{verdict=\"bad\",tile=\"b\"} 6\nm_verdicts{verdict=\"ok\"} 7\n";
        let metrics = Metrics::parse(text);
        let sum = |name, listener| metrics.sum(name, listener) as i64;
        assert_eq!(sum("refused_total", Some("submit")), 3);
        assert_eq!(sum("refused_total", None), 7);
        assert_eq!(sum("verdicts{verdict=\"bad\"}", None), 11);
    }
}

//! Links into Grafana's Explore page: a trace and its logs side by side.
//!
//! The data sources of Tempo and Loki must have the uids `tempo` and `loki`. Format of the URLs:
//! <https://grafana.com/docs/grafana/latest/explore/get-started-with-explore/>.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use url::Url;

/// The time range of a link reaches this far before and after now.
const RANGE: Duration = Duration::from_hours(1);

/// Creates links to traces and logs.
#[derive(Clone, Debug)]
pub(crate) struct GrafanaLinks {
    /// URL of the Explore page.
    explore: Url,
    /// `service.name` of the service whose logs are shown.
    service: String,
}

impl GrafanaLinks {
    /// Creates links for the Grafana instance with the base URL `grafana`.
    pub(crate) fn new(grafana: &Url, service: &str) -> Self {
        let mut explore = grafana.clone();
        let path = format!("{}/explore", explore.path().trim_end_matches('/'));
        explore.set_path(&path);
        Self {
            explore,
            service: service.to_owned(),
        }
    }

    /// Returns the URL that opens a trace and its logs. `trace` is the trace id, 32 hex digits.
    pub(crate) fn trace(&self, trace: &str) -> String {
        let now = SystemTime::now();
        let range = json!({"from": millis(now - RANGE), "to": millis(now + RANGE)});
        let pane = |uid: &str, mut query: Value| {
            query["refId"] = json!("A");
            query["datasource"] = json!({"type": uid, "uid": uid});
            json!({"datasource": uid, "queries": [query], "range": range})
        };
        let logs = format!(
            "{{service_name=\"{}\"}} | trace_id=\"{trace}\"",
            self.service
        );
        let panes = json!({
            "t": pane("tempo", json!({"queryType": "traceql", "query": trace})),
            "l": pane("loki", json!({"queryType": "range", "expr": logs})),
        });
        let panes = panes.to_string();
        let query = [("schemaVersion", "1"), ("orgId", "1"), ("panes", &panes)];
        let mut url = self.explore.clone();
        url.query_pairs_mut().extend_pairs(query);
        // A space must be encoded as %20: a plus means a space only in HTML forms.
        url.as_str().replace('+', "%20")
    }
}

/// Returns the milliseconds since 1970-01-01 UTC, as a string.
fn millis(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().to_string()
}

//! From an event to Grafana: trace and logs side by side in Explore.
//!
//! See <https://grafana.com/docs/grafana/latest/explore/get-started-with-explore/>.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use url::Url;

/// How far from the event is looked.
const AROUND: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Of its Explore page.
    explore: Url,
    service: String,
}

impl Links {
    pub(super) fn new(grafana: Url, service: &str) -> Self {
        let mut explore = grafana;
        let path = format!("{}/explore", explore.path().trim_end_matches('/'));
        explore.set_path(&path);
        Self {
            explore,
            service: service.to_owned(),
        }
    }

    /// Whose events these are.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// Opens a trace and the logs of it, around now.
    pub(super) fn trace(&self, trace: &str) -> String {
        let now = SystemTime::now();
        let range = json!({"from": millis(now - AROUND), "to": millis(now + AROUND)});
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
        // A space as %20: a plus is one in forms alone.
        url.as_str().replace('+', "%20")
    }
}

/// Milliseconds since 1970, as text.
fn millis(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().to_string()
}

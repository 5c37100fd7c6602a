//! The start page in the browser: a diagram of the system, a button for each kind of request, and
//! links to the dashboards. The files are static. Without JavaScript, the page is a list of links.

mod visits;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{
        HeaderValue, Method,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{Html, IntoResponse},
    routing::get,
};
use reqwest::Url;

use crate::state::AppState;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
/// The placeholder in the page for the URL of Grafana.
const GRAFANA: &str = "{grafana}";
/// Grafana of docker compose.
const DEFAULT_GRAFANA: &str = "http://localhost:3000";
/// The placeholder in the page for the URL of Alertmanager. It is empty without one.
const ALERTMANAGER: &str = "{alertmanager}";

/// Returns the routes of the start page. `grafana` and `alertmanager` are their URLs in a browser.
pub(crate) fn routes(grafana: Option<&Url>, alertmanager: Option<&Url>) -> Router<AppState> {
    let grafana = grafana.map_or(DEFAULT_GRAFANA, Url::as_str);
    let page = PAGE.replace(GRAFANA, grafana.trim_end_matches('/'));
    let url = alertmanager.map_or("", Url::as_str).trim_end_matches('/');
    let page = Bytes::from(page.replace(ALERTMANAGER, url));
    let policy = policy(alertmanager);
    let visit = |State(app): State<AppState>, method: Method| async move {
        if method == Method::GET {
            app.metrics.visitors.add(1, &[]);
            visits::store(&app.background, &app.db);
        }
        ([(CONTENT_SECURITY_POLICY, policy)], Html(page))
    };
    Router::new()
        .route("/", get(visit))
        .route("/page.js", get(file("text/javascript", SCRIPT)))
        .route("/page.css", get(file("text/css", STYLE)))
}

/// Returns the content security policy: it allows only the files of the page, and calls to this API and
/// to Alertmanager.
fn policy(alertmanager: Option<&Url>) -> HeaderValue {
    let alertmanager = alertmanager.map(|url| url.origin().ascii_serialization());
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {}; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        alertmanager.unwrap_or_default()
    );
    HeaderValue::try_from(policy).expect("the origin of a URL is ASCII")
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse + Clone {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

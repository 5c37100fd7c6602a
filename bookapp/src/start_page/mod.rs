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

use crate::{config::Config, state::AppState};

const PAGE: &str = include_str!("page.html");
/// The links to the parts of docker compose.
const COMPOSE: &str = include_str!("compose.html");
/// The links to the viewer.
const VIEWER: &str = include_str!("viewer.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
/// Grafana of docker compose.
const DEFAULT_GRAFANA: &str = "http://localhost:3000";

/// Returns the routes of the start page, which links to what the settings name.
pub(crate) fn routes(config: &Config) -> Router<AppState> {
    let page = Bytes::from(page(config));
    let policy = policy(config.alertmanager_url.as_ref());
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

/// Returns the page with the links and the URLs in place of their placeholders. A URL that is not set is
/// empty, except that of Grafana.
fn page(config: &Config) -> String {
    let grafana = config.service.telemetry.grafana_url.as_ref();
    let viewer = config.viewer_url.as_ref();
    let url = |url: Option<&Url>, default| {
        let url = url.map_or(default, Url::as_str);
        url.trim_end_matches('/').to_owned()
    };
    PAGE.replace("{look}", if viewer.is_some() { VIEWER } else { COMPOSE })
        .replace("{grafana}", &url(grafana, DEFAULT_GRAFANA))
        .replace("{viewer}", &url(viewer, ""))
        .replace("{alertmanager}", &url(config.alertmanager_url.as_ref(), ""))
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

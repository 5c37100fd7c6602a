//! The page, and the data that it shows as JSON.

mod api;
mod guard;
mod live;

use std::sync::Arc;

use axum::{
    Router,
    http::{
        HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    routing::get,
};
use tower_http::set_header::SetResponseHeaderLayer;

pub(crate) use guard::local_only;

use crate::Store;

/// The page loads only its own files, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn router(store: Arc<Store>) -> Router {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, kind)], text) })
    };
    macro_rules! script {
        ($name:literal) => {
            file(
                "text/javascript",
                include_str!(concat!("../../static/", $name)),
            )
        };
    }
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    let html = include_str!("../../static/index.html");
    let css = include_str!("../../static/style.css");
    Router::new()
        .route("/", file("text/html; charset=utf-8", html))
        .route("/style.css", file("text/css", css))
        .route("/app.js", script!("app.js"))
        .route("/data.js", script!("data.js"))
        .route("/elements.js", script!("elements.js"))
        .route("/filters.js", script!("filters.js"))
        .route("/traces.js", script!("traces.js"))
        .route("/trace.js", script!("trace.js"))
        .route("/logs.js", script!("logs.js"))
        .route("/errors.js", script!("errors.js"))
        .route("/metrics.js", script!("metrics.js"))
        .merge(api::router())
        .layer(header(CONTENT_SECURITY_POLICY, POLICY))
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(CACHE_CONTROL, "no-store"))
        .with_state(store)
}

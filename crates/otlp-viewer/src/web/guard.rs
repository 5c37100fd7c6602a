//! Only programs and pages of this machine may ask.

use axum::{
    extract::Request,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Rejects requests that a page of another site makes in the browser of a person on this machine: those with
/// another `Origin`, and those to a name that is not of this machine, which the site's DNS may resolve to it.
pub(crate) async fn local_only(request: Request, next: Next) -> Response {
    let host = host(request.headers(), request.uri());
    let Some(host) = host.filter(|host| is_local(host)) else {
        let message = "the host must be localhost, 127.0.0.1 or [::1]\n";
        return (StatusCode::MISDIRECTED_REQUEST, message).into_response();
    };
    let origin = request.headers().get(ORIGIN);
    let is_own =
        origin.is_none_or(|origin| origin.as_bytes() == format!("http://{host}").as_bytes());
    if !is_own {
        let message = "requests of other sites are not allowed\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

/// Returns the host and port to which a request was sent: HTTP/2 has them in the URI.
fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let authority = uri.authority().map(Authority::as_str);
    authority.or_else(|| headers.get(HOST)?.to_str().ok())
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

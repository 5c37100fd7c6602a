//! Authorization of writes, which change a running process, by a bearer token.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use crate::problem::Problem;

/// The token that authorizes writes: to the admin listener and to the fault rules of the API.
#[derive(Args, Clone, Debug)]
pub struct AdminToken {
    /// Bearer token that writes require. Without this setting, anyone who reaches the address may
    /// write.
    #[arg(long, env, hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<SecretString>,
}

/// Middleware: responds with 401 to a request with an unsafe method and without the token. Passes
/// all other requests, and every request if no token is set.
pub async fn authorize(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    // Docker Compose passes an unset variable as an empty one.
    let expected = token.admin_token.as_ref().map(ExposeSecret::expose_secret);
    let Some(expected) = expected.filter(|expected| !expected.is_empty()) else {
        return next.run(request).await;
    };
    let header = request.headers().get(header::AUTHORIZATION);
    let sent = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let is_read = request.method().is_safe();
    if is_read || sent.is_some_and(|sent| is_equal(sent, expected)) {
        return next.run(request).await;
    }
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "this request requires ADMIN_TOKEN as bearer token",
    );
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, problem).into_response()
}

/// Compares in constant time: the duration depends only on the length, so it does not reveal how
/// many leading characters match.
fn is_equal(a: &str, b: &str) -> bool {
    let difference = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && difference == 0
}

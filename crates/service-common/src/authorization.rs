//! Authorization of calls that change a running process: a bearer token.

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
    /// Bearer token that writes must carry; without it, anyone who reaches the address may write.
    #[arg(long, env, hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<SecretString>,
}

/// Middleware: passes safe methods, and other methods only with the token where one is set; else the
/// response is 401.
pub async fn authorize(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    // A compose file passes on an unset variable as an empty one.
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
        "this call needs ADMIN_TOKEN as bearer token",
    );
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, problem).into_response()
}

/// Compares in a time that depends on the length alone, so that the time does not reveal how many
/// leading characters are right.
fn is_equal(a: &str, b: &str) -> bool {
    let difference = a
        .bytes()
        .zip(b.bytes())
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && difference == 0
}

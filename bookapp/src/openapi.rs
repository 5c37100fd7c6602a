//! The OpenAPI document of the API, derived from the handlers and committed as
//! `bookapp/openapi.json`.

use service_common::{openapi, problem::Problem};
use utoipa::{IntoResponses, OpenApi};

use crate::{books::handlers, fault_injection::handlers as faults};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "bookapp",
        description = "Stores books and publishes an event for each added book."
    ),
    paths(
        handlers::list,
        handlers::add,
        handlers::bulk_add,
        handlers::get,
        handlers::change,
        handlers::remove,
        handlers::details,
        faults::list,
        faults::add,
        faults::change,
        faults::remove,
        faults::clear
    ),
    components(schemas(Problem))
)]
struct Api;

/// Returns the document in OpenAPI 3.1.
pub fn document() -> String {
    openapi::text(&Api::openapi())
}

/// The error responses that any operation may return.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "used only in the OpenAPI document")]
pub(crate) enum ErrorResponse {
    /// The body is not valid JSON
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// The resource does not exist
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The body did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    BodyTimeout(Problem),
    /// The body is larger than 1 MiB
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not `application/json`
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(Problem),
    /// A field or parameter is missing, of the wrong type, or out of range
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The server failed
    #[response(status = 500, content_type = "application/problem+json")]
    InternalError(Problem),
    /// The service is overloaded, or a dependency is not available; the client may retry
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
    /// The request took too long, or the database was lost during a write. It may have had its effect; repeat a
    /// POST only with the same Idempotency-Key
    #[response(status = 504, content_type = "application/problem+json")]
    Unknown(Problem),
}

/// The response to a write without the admin token.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "used only in the OpenAPI document")]
pub(crate) enum Unauthorized {
    /// The request requires `ADMIN_TOKEN` as bearer token
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_matches_the_handlers() {
        let committed = include_str!("../openapi.json");
        assert_eq!(committed, super::document(), "run `cargo xtask openapi`");
    }
}

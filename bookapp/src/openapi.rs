//! The API's description: derived from the handlers, committed as `bookapp/openapi.json`.

use service_common::{openapi, problem::Problem};
use utoipa::{IntoResponses, OpenApi};

use crate::{books::handlers, fault_injection::handlers as faults};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "bookapp",
        description = "Books: added, changed, listed, announced."
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

/// The document, OpenAPI 3.1.
pub fn document() -> String {
    openapi::text(&Api::openapi())
}

/// What any call may be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the document alone")]
pub(crate) enum Refusal {
    /// The body is no JSON
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// There is no such thing
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The body did not come in time
    #[response(status = 408, content_type = "application/problem+json")]
    Slow(Problem),
    /// The body is larger than 1 MiB
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// The body is not `application/json`
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(Problem),
    /// A field or parameter is missing, of the wrong type, or out of range
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// Something is broken
    #[response(status = 500, content_type = "application/problem+json")]
    Broken(Problem),
    /// Too busy, or a part is away: try again later
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// What a write is refused with that lacks the admin's token.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the document alone")]
pub(crate) enum Unauthorized {
    /// The call needs `ADMIN_TOKEN` as bearer token
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_the_code_s() {
        let committed = include_str!("../openapi.json");
        assert_eq!(committed, super::document(), "run `cargo xtask openapi`");
    }
}

//! The request id: one id in the log records of every service for all work that a request causes.
//!
//! The id is stored in the OpenTelemetry context, as baggage is, so spans and log records get it
//! without a parameter. Unlike baggage, propagators do not send it: [`http`](crate::http) sends it
//! in the header `x-request-id` of requests and responses, and a service can add it to its
//! messages. A trace id is not sufficient, because a message is processed in another trace.

use std::{fmt, sync::Arc};

#[cfg(feature = "http")]
use opentelemetry::Value;
use opentelemetry::{Context, context::FutureExt};
use ulid::Ulid;

/// The maximum length of a caller's id, in characters. A longer id is replaced.
const MAX_LENGTH: usize = 128;

/// The id of a request: the caller's id, or a generated ULID.
///
/// The server layer sets it. A job that no request caused can have an id, too:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use telemetry_common::RequestId;
///
/// let id = RequestId::generate();
/// let seen = id.clone().scope(async { RequestId::current() }).await;
/// assert_eq!(seen, Some(id));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Generates a new id, a ULID.
    pub fn generate() -> Self {
        Self(Ulid::generate().to_string().into())
    }

    /// Accepts a caller's id: 1 to 128 characters of printable ASCII without spaces. Returns `None`
    /// for every other string.
    pub fn parse(id: &str) -> Option<Self> {
        let acceptable = !id.is_empty()
            && id.len() <= MAX_LENGTH
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        acceptable.then(|| Self(id.into()))
    }

    /// Returns the id of the current request or message, or `None` if there is none.
    pub fn current() -> Option<Self> {
        Context::map_current(|context| context.get::<Self>().cloned())
    }

    /// Runs `work` with this id in its context, where [`current`](Self::current) finds it.
    ///
    /// The id is added to the context in which the returned future is first polled. So with
    /// `id.scope(work).instrument(span)`, the work has both.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        let context = Context::current_with_value(self);
        work.with_context(context).await
    }

    /// Calls `work` with this id in its context.
    pub fn in_scope<T>(self, work: impl FnOnce() -> T) -> T {
        let _context = Context::current_with_value(self).attach();
        work()
    }

    /// Returns the id as the value of an attribute, without copying it.
    #[cfg(feature = "http")]
    pub(crate) fn to_value(&self) -> Value {
        Value::String(Arc::clone(&self.0).into())
    }

    /// Returns the id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "http")]
impl From<&RequestId> for http::HeaderValue {
    fn from(id: &RequestId) -> Self {
        Self::from_str(id.as_str()).expect("a request id is printable ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_id_is_kept_only_when_it_is_short_printable_ascii() {
        assert_eq!(RequestId::parse("load-42").unwrap().as_str(), "load-42");
        assert_eq!(RequestId::parse(""), None);
        assert_eq!(RequestId::parse("two words"), None);
        assert_eq!(RequestId::parse("Büchner"), None);
        assert_eq!(RequestId::parse(&"x".repeat(129)), None);
    }
}

//! One id for everything a request causes, in every service's logs.
//!
//! It rides in the OpenTelemetry context, as baggage does, and so reaches every span and log below
//! without a parameter; unlike baggage it leaves the process only where we write it down: in the
//! answer's `x-request-id` and in the event. A trace id does not serve: the worker's trace is
//! another one.

use std::{fmt, sync::Arc};

use opentelemetry::{Context, context::FutureExt};
use ulid::Ulid;

/// The longest id taken from a caller; a longer one is replaced.
const MAX_LENGTH: usize = 128;

/// The id of a request: a ULID, or what the caller chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A fresh id.
    pub fn generate() -> Self {
        Self(Ulid::generate().to_string().into())
    }

    /// The caller's id, if it is printable ASCII without spaces and at most 128 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let acceptable = !text.is_empty()
            && text.len() <= MAX_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        acceptable.then(|| Self(text.into()))
    }

    /// The id of the work in hand; `None` where nobody asked for it.
    pub fn current() -> Option<Self> {
        Context::map_current(|context| context.get::<Self>().cloned())
    }

    /// Runs `work` under this id.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        work.with_context(Context::current_with_value(self))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(any(feature = "axum", feature = "reqwest"))]
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

//! Recording of failures: on the span in which they happen, and as one log record where they are
//! handled.

use std::{any::type_name, error::Error, fmt, iter};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Status, TraceContextExt},
};

use crate::semconv;

/// Sets the status of the current span to Error, with the message of `error` as its description,
/// and the attribute `error.type` to `error_type`, which must be a low-cardinality value.
///
/// Call it inside the instrumented future. Outside of it, the current span is the parent. It does
/// not log the error: [`exception!`](crate::exception) does, once, where the error is handled.
///
/// ```
/// use telemetry_common::{exception, record_failure};
/// use tracing::instrument;
///
/// #[instrument]
/// fn parse(price: &str) -> Result<u32, std::num::ParseIntError> {
///     price.parse().inspect_err(|error| record_failure("invalid_price", error))
/// }
///
/// if let Err(error) = parse("cheap") {
///     exception!(warn, "shop.price.rejected", &error, { price = "cheap" }, "the price is no number");
/// }
/// ```
///
/// Convention: <https://opentelemetry.io/docs/specs/semconv/general/recording-errors/>.
pub fn record_failure(error_type: &'static str, error: &dyn Error) {
    Context::map_current(|context| {
        let span = context.span();
        span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type));
        span.set_status(Status::error(error.to_string()));
    });
}

/// Sets an attribute of the current span, such as `set_attribute("tenant.id", 7)`: the innermost one, of an instrumented function or else of
/// the request or message.
///
/// `Span::current()` of `tracing` has the former only, because the span of a request is created by
/// the OpenTelemetry API.
pub fn set_attribute(key: &'static str, value: impl Into<Value>) {
    Context::map_current(|context| context.span().set_attribute(KeyValue::new(key, value)));
}

/// Logs an error where it is handled. The log record has `exception.type` and `exception.message`.
///
/// The arguments of `exception!(warn, "bookapp.list.degraded", &error, "the list has no details")`
/// are the level, the event name, the error and the message. Further fields are passed in braces
/// before the message. `exception.message` contains the messages of all causes.
///
/// Convention: <https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/>.
#[macro_export]
macro_rules! exception {
    ($level:ident, $name:expr, $error:expr, { $($fields:tt)* }, $($text:tt)+) => {
        $crate::tracing::$level!(
            name: $name,
            {
                // The log appender exports this field as `exception.message`.
                error = &$crate::error_chain($error) as &dyn ::std::error::Error,
                { $crate::semconv::EXCEPTION_TYPE } = $crate::ExceptionType::exception_type($error),
                $($fields)*
            },
            $($text)+
        )
    };
    ($level:ident, $name:expr, $error:expr, $($text:tt)+) => {
        $crate::exception!($level, $name, $error, {}, $($text)+)
    };
}

/// Returns `exception.type` of an error: its type, and its variant if the type is an enum.
///
/// The type of a `dyn Error`, and so of an `anyhow::Error`, is not known. For those it returns the
/// type of the innermost cause whose type this crate recognizes, or `None` if there is none.
#[doc(hidden)]
pub trait ExceptionType {
    /// Returns the path of the type, such as `sqlx_core::error::Error::PoolTimedOut`.
    fn exception_type(&self) -> Option<String>;
}

impl<E: Error> ExceptionType for E {
    fn exception_type(&self) -> Option<String> {
        Some(with_variant(type_name::<E>(), self))
    }
}

impl ExceptionType for dyn Error + 'static {
    fn exception_type(&self) -> Option<String> {
        let causes = iter::successors(Some(self), |&cause| cause.source());
        causes.filter_map(known_type).last()
    }
}

impl ExceptionType for dyn Error + Send + Sync + 'static {
    fn exception_type(&self) -> Option<String> {
        let error: &(dyn Error + 'static) = self;
        error.exception_type()
    }
}

/// Returns the type of an error if it is a type of the standard library or of a library that this
/// crate instruments.
fn known_type(error: &(dyn Error + 'static)) -> Option<String> {
    fn name<E: Error + 'static>(error: &(dyn Error + 'static)) -> Option<String> {
        error.downcast_ref::<E>()?.exception_type()
    }
    let known = [
        name::<std::io::Error>,
        name::<std::num::ParseIntError>,
        name::<serde_json::Error>,
        #[cfg(feature = "sqlx")]
        name::<sqlx::Error>,
        #[cfg(feature = "sqlx")]
        name::<sqlx::migrate::MigrateError>,
        #[cfg(feature = "kafka")]
        name::<rdkafka::error::KafkaError>,
        #[cfg(feature = "reqwest")]
        name::<reqwest::Error>,
    ];
    known.iter().find_map(|name| name(error))
}

/// Appends the variant of `error` to the path of its type. A derived `Debug` of an enum begins with
/// the variant, that of a struct with the name of the type.
fn with_variant(name: &str, error: &dyn Error) -> String {
    let debug = format!("{error:?}");
    let end = debug.find(|c: char| !c.is_alphanumeric());
    let variant = &debug[..end.unwrap_or(debug.len())];
    let type_itself = name.split('<').next().unwrap_or(name).ends_with(variant);
    if variant.starts_with(char::is_uppercase) && !type_itself {
        format!("{name}::{variant}")
    } else {
        name.to_owned()
    }
}

/// Returns the messages of an error and of all its causes, for a log record. Exporters write only
/// the error's own message.
pub fn error_chain(error: &dyn Error) -> ErrorChain {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    let mut messages: Vec<String> = Vec::new();
    for message in iter::once(error).chain(causes).map(ToString::to_string) {
        // Many libraries repeat their cause's message at the end of their own.
        if messages.last().is_none_or(|last| !last.ends_with(&message)) {
            messages.push(message);
        }
    }
    ErrorChain(messages)
}

/// The messages of an error and of all its causes, as [`error_chain`] returns them. `Display` joins
/// them with `: `.
#[derive(Debug)]
pub struct ErrorChain(Vec<String>);

impl ErrorChain {
    /// Returns the messages. The first one is the error's own message.
    pub fn messages(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ErrorChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(": "))
    }
}

impl Error for ErrorChain {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not add the book")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped: {0}")]
    struct Repeating(#[source] Outer);

    fn full_disk() -> Outer {
        Outer(std::io::Error::other("disk full"))
    }

    #[test]
    fn a_chain_has_the_error_and_then_its_cause() {
        let chain = error_chain(&full_disk()).to_string();
        assert_eq!(chain, "could not add the book: disk full");
    }

    #[test]
    fn a_message_that_repeats_its_cause_is_not_repeated_again() {
        let chain = error_chain(&Repeating(full_disk())).to_string();
        assert_eq!(chain, "wrapped: could not add the book: disk full");
    }

    #[test]
    fn an_exception_has_a_type_that_exists() {
        let error = full_disk();
        let name = "telemetry_common::failure::tests::Outer";
        assert_eq!(error.exception_type().as_deref(), Some(name));
        let boxed: Box<dyn Error + Send + Sync> = Box::new(error);
        let cause = "std::io::error::Error";
        let found = boxed.exception_type().unwrap();
        assert!(found.starts_with(cause), "{found}");
        let unknown: Box<dyn Error> = Box::new(fmt::Error);
        assert_eq!((*unknown).exception_type(), None);
    }
}

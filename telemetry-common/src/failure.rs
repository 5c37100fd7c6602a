//! A failure is marked where it happens and logged once where it is answered.

use std::{any::type_name, borrow::Cow, error::Error, fmt, iter};

use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::semconv;

/// Marks the current span as failed: status `Error`, and `error_type`, a word from a fixed set.
///
/// Call it inside the instrumented future, else it marks the parent. It logs nothing.
pub fn record_failure(error_type: &'static str, error: &dyn Error) {
    mark(&Span::current(), error_type, error.to_string());
}

/// Marks `span` as failed with a low-cardinality `error_type`.
pub(crate) fn mark(
    span: &Span,
    error_type: impl Into<Cow<'static, str>>,
    description: impl Into<Cow<'static, str>>,
) {
    span.set_attribute(semconv::ERROR_TYPE, error_type.into());
    span.set_status(Status::error(description));
}

/// Logs an error where it is answered: a log record that is an exception by convention.
///
/// `exception!(warn, "bookapp.list.degraded", &error, "the list goes without details")`: level,
/// event name, error, then the text, before it other fields in braces if there are any.
///
/// Convention: <https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/>.
#[macro_export]
macro_rules! exception {
    ($level:ident, $name:expr, $error:expr, { $($fields:tt)* }, $($text:tt)+) => {
        $crate::tracing::$level!(
            name: $name,
            {
                // The exporter names this field `exception.message`.
                error = &$crate::error_chain($error) as &dyn ::std::error::Error,
                { $crate::semconv::EXCEPTION_TYPE } = $crate::exception_type($error),
                { $crate::semconv::EXCEPTION_STACKTRACE } = $crate::causes($error),
                $($fields)*
            },
            $($text)+
        )
    };
    ($level:ident, $name:expr, $error:expr, $($text:tt)+) => {
        $crate::exception!($level, $name, $error, {}, $($text)+)
    };
}

/// `exception.type`: the error's own type, as its crate calls it, and which of its variants.
#[doc(hidden)]
pub fn exception_type<E: Error + ?Sized>(error: &E) -> String {
    let name = match type_name::<E>() {
        name if name.starts_with("dyn ") => "dyn Error",
        name => name,
    };
    // Derived, `Debug` begins with the variant, or with the type itself.
    let debug = format!("{error:?}");
    let end = debug.find(|c: char| !c.is_alphanumeric());
    let variant = &debug[..end.unwrap_or(debug.len())];
    let is_variant = variant.starts_with(char::is_uppercase) && !name.ends_with(variant);
    if is_variant {
        format!("{name}::{variant}")
    } else {
        name.to_owned()
    }
}

/// `exception.stacktrace`: the chain of causes, one a line; `None` where there is none.
#[doc(hidden)]
pub fn causes(error: &dyn Error) -> Option<String> {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    let lines: Vec<_> = causes.map(|cause| format!("caused by: {cause}")).collect();
    (!lines.is_empty()).then(|| format!("{error}\n{}", lines.join("\n")))
}

/// An error as a log line tells it: what failed, and then why, all the way down.
///
/// Exporters write an error's own text alone; its sources would stay on the console.
pub fn error_chain(error: &dyn Error) -> ErrorChain {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    let chain = iter::once(error).chain(causes).map(ToString::to_string);
    ErrorChain(chain.collect())
}

/// Made by [`error_chain`]: the error's text and those of its causes.
#[derive(Debug)]
pub struct ErrorChain(Vec<String>);

impl ErrorChain {
    /// The texts, the error's own first.
    pub fn chain(&self) -> &[String] {
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

    #[test]
    fn an_explanation_says_what_failed_and_then_why() {
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(
            error_chain(&error).to_string(),
            "could not add the book: disk full"
        );
    }
}

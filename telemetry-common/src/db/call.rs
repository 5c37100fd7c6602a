//! The span and the duration metric of one statement. Both include the wait for a connection.

use std::{
    borrow::Cow,
    io::ErrorKind,
    sync::LazyLock,
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, metrics::Histogram};
use sqlx::{Error, error::DatabaseError};
use tokio::time::timeout;
use tracing::{Instrument, Span, field::Empty, info_span};

use super::Target;
use crate::{failure, scope, semconv};

/// A running statement. The outcome is recorded on drop, so that a cancelled statement is recorded
/// too.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) span: Span,
    started: Instant,
    attributes: Vec<KeyValue>,
    /// Number of returned rows; `None` if the statement is not a SELECT.
    pub(super) rows: Option<i64>,
    answer_timeout: Duration,
    failure: Option<Cow<'static, str>>,
}

impl Call {
    /// Starts the span. `collection` is the table. It is empty for statements without a table, such
    /// as BEGIN and COMMIT.
    pub(super) fn begin(
        target: &Target,
        operation: &'static str,
        collection: &'static str,
    ) -> Self {
        let summary = match collection {
            "" => Cow::Borrowed(operation),
            collection => Cow::Owned(format!("{operation} {collection}")),
        };
        let collection = Some(collection).filter(|name| !name.is_empty());
        let span = info_span!(
            "db.client",
            otel.kind = "client",
            otel.name = &*summary,
            { semconv::DB_SYSTEM_NAME } = "postgresql",
            { semconv::DB_NAMESPACE } = target.namespace,
            { semconv::DB_OPERATION_NAME } = operation,
            { semconv::DB_COLLECTION_NAME } = collection,
            { semconv::DB_QUERY_SUMMARY } = &*summary,
            { semconv::DB_QUERY_TEXT } = Empty,
            { semconv::DB_RESPONSE_RETURNED_ROWS } = Empty,
            { semconv::DB_RESPONSE_STATUS_CODE } = Empty,
            { semconv::DB_CONNECTION_WAIT } = Empty,
            { semconv::SERVER_ADDRESS } = target.address,
            { semconv::SERVER_PORT } = target.port,
        );
        let mut attributes = Vec::with_capacity(10);
        attributes.push(KeyValue::new(semconv::DB_SYSTEM_NAME, "postgresql"));
        attributes.push(KeyValue::new(
            semconv::DB_NAMESPACE,
            target.namespace.clone(),
        ));
        attributes.push(KeyValue::new(semconv::DB_OPERATION_NAME, operation));
        attributes.push(KeyValue::new(semconv::DB_QUERY_SUMMARY, summary));
        attributes.extend(collection.map(|name| KeyValue::new(semconv::DB_COLLECTION_NAME, name)));
        attributes.push(KeyValue::new(
            semconv::SERVER_ADDRESS,
            target.address.clone(),
        ));
        attributes.extend(
            target
                .port
                .map(|port| KeyValue::new(semconv::SERVER_PORT, port)),
        );
        let rows = (operation == "SELECT").then_some(0);
        Self {
            span,
            started: Instant::now(),
            attributes,
            rows,
            answer_timeout: target.answer_timeout,
            failure: Some("cancelled".into()),
        }
    }

    /// Waits in the span for an answer of the server. Fails if it does not answer in time.
    pub(super) async fn answer<T>(
        &self,
        answer: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        let answer = timeout(self.answer_timeout, answer.instrument(self.span.clone()));
        let in_time = answer.await;
        in_time.unwrap_or_else(|_| Err(Error::Io(ErrorKind::TimedOut.into())))
    }

    /// Records the SQL text of a statement that has parameters, or neither parameters nor literals.
    /// In any other text, the literals may be values of users: by convention, only parameterized or
    /// sanitized text is recorded.
    pub(super) fn record_query_text(&self, sql: &str, parameters: usize) {
        let has_literal = || sql.contains(|c: char| c == '\'' || c.is_ascii_digit());
        if parameters > 0 || !has_literal() {
            self.span.record(semconv::DB_QUERY_TEXT, sql);
        }
    }

    /// Records the time that the statement waited for its connection, if there is one to record.
    pub(super) fn record_wait(&self, waited: Option<Duration>) {
        if let Some(waited) = waited {
            self.span
                .record(semconv::DB_CONNECTION_WAIT, waited.as_secs_f64());
        }
    }

    /// Sets the outcome. Without this call, the statement is recorded as cancelled.
    pub(super) fn finish<T>(&mut self, outcome: Result<&T, &Error>) {
        // An empty result is not a failure.
        let error = outcome
            .err()
            .filter(|error| !matches!(error, Error::RowNotFound));
        self.failure = error.map(error_type);
        if let Some(code) = error
            .and_then(Error::as_database_error)
            .and_then(DatabaseError::code)
        {
            self.span.record(semconv::DB_RESPONSE_STATUS_CODE, &*code);
            self.attributes.push(KeyValue::new(
                semconv::DB_RESPONSE_STATUS_CODE,
                code.into_owned(),
            ));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(failure) = self.failure.take() {
            failure::mark(&self.span, failure.clone(), failure.clone());
            self.attributes
                .push(KeyValue::new(semconv::ERROR_TYPE, failure));
        } else if let Some(rows) = self.rows {
            self.span.record(semconv::DB_RESPONSE_RETURNED_ROWS, rows);
        }
        DURATION.record(self.started.elapsed().as_secs_f64(), &self.attributes);
    }
}

/// Returns `error.type`: PostgreSQL's SQLSTATE code, else the kind of the error. The message of the
/// error is not recorded, because it may contain values.
fn error_type(error: &Error) -> Cow<'static, str> {
    match error {
        Error::Database(error) => error
            .code()
            .map_or("_OTHER".into(), |code| code.into_owned().into()),
        Error::PoolTimedOut => "pool_timeout".into(),
        Error::PoolClosed => "pool_closed".into(),
        Error::Io(_) => "io".into(),
        Error::Tls(_) => "tls".into(),
        Error::Protocol(_) => "protocol".into(),
        Error::ColumnDecode { .. } | Error::Decode(_) => "decode".into(),
        _ => "_OTHER".into(),
    }
}

/// Created at the first statement, because instruments must be created after telemetry is installed.
static DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    scope::meter()
        .f64_histogram(semconv::DB_CLIENT_OPERATION_DURATION)
        .with_unit("s")
        .with_description("Duration of database client operations")
        .with_boundaries(semconv::DB_DURATION_BOUNDARIES.to_vec())
        .build()
});

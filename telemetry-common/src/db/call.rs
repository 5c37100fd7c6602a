//! The span and the duration metric of one statement. Both include the wait for a connection.

use std::{
    borrow::Cow,
    future::poll_fn,
    io::ErrorKind,
    pin::pin,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    metrics::{BoundHistogram, Histogram},
    trace::{SpanKind, TraceContextExt},
};
use sqlx::{Error, error::DatabaseError};
use tokio::time::timeout;
use tracing::{Metadata, info_span};

use super::Target;
use crate::{
    current::Current,
    edge::{self, Attributes},
    scope, semconv,
};

/// What all calls of one operation on one table have in common.
#[derive(Debug)]
pub(super) struct Statement {
    summary: Arc<str>,
    is_select: bool,
    /// The attributes of the span and of the metric.
    attributes: Vec<KeyValue>,
    /// The durations of the calls that did not fail.
    duration: BoundHistogram<f64>,
    answer_timeout: Duration,
}

impl Statement {
    /// `collection` is the table. It is empty for statements without a table, such as BEGIN and COMMIT.
    pub(super) fn new(target: &Target, operation: &'static str, collection: &'static str) -> Self {
        let summary: Arc<str> = match collection {
            "" => operation.into(),
            collection => format!("{operation} {collection}").into(),
        };
        let collection = Some(collection).filter(|name| !name.is_empty());
        let mut attributes = Attributes(Vec::with_capacity(7));
        attributes.add(semconv::DB_SYSTEM_NAME, "postgresql");
        attributes.add(semconv::DB_NAMESPACE, Arc::clone(&target.namespace));
        attributes.add(semconv::DB_OPERATION_NAME, operation);
        attributes.add(semconv::DB_QUERY_SUMMARY, Arc::clone(&summary));
        attributes.add_some(semconv::DB_COLLECTION_NAME, collection);
        attributes.add(semconv::SERVER_ADDRESS, Arc::clone(&target.address));
        attributes.add_some(semconv::SERVER_PORT, target.port);
        Self {
            summary,
            is_select: operation == "SELECT",
            duration: DURATION.bind(&attributes.0),
            attributes: attributes.0,
            answer_timeout: target.answer_timeout,
        }
    }
}

/// The name of the span for other layers.
const SPAN_NAME: &str = "db.client";

/// Whether `metadata` is that of the span for other layers.
pub(crate) fn is_statement(metadata: &Metadata<'_>) -> bool {
    metadata.name() == SPAN_NAME && metadata.target() == edge::TARGET
}

/// A running statement. The outcome is recorded on drop, so that a cancelled statement is recorded
/// too.
#[derive(Debug)]
pub(super) struct Call {
    statement: Arc<Statement>,
    /// What is current while the server answers.
    current: Current,
    /// The context that contains the span, or is empty.
    span: Context,
    started: Instant,
    /// Number of returned rows.
    pub(super) rows: i64,
    /// How long the statement waited for its connection, if that is recorded.
    pub(super) waited: Option<Duration>,
    failure: Option<Cow<'static, str>>,
    /// The SQLSTATE code of the error.
    code: Option<String>,
}

impl Call {
    /// Starts the span. `sql` is the text of a statement with this number of parameters.
    pub(super) fn begin(statement: Arc<Statement>, sql: Option<(&str, usize)>) -> Self {
        let edge = edge::start(Context::current(), SpanKind::Client, None, |attributes| {
            attributes.0.extend_from_slice(&statement.attributes);
            let text = sql.and_then(|(sql, parameters)| recordable(sql, parameters));
            attributes.add_some(semconv::DB_QUERY_TEXT, text.map(str::to_owned));
            statement.summary.to_string().into()
        });
        let fields = info_span!(
            target: edge::TARGET,
            SPAN_NAME,
            { semconv::DB_QUERY_SUMMARY } = &*statement.summary,
        );
        Self {
            statement,
            current: Current::of_call(fields, edge.context),
            span: edge.span,
            started: Instant::now(),
            rows: 0,
            waited: None,
            failure: Some("cancelled".into()),
            code: None,
        }
    }

    /// Waits in the span for an answer of the server. Fails if it does not answer in time.
    pub(super) async fn answer<T>(
        &self,
        answer: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        let mut answer = pin!(answer);
        let answer = poll_fn(|context| self.current.run(|| answer.as_mut().poll(context)));
        let in_time = timeout(self.statement.answer_timeout, answer).await;
        in_time.unwrap_or_else(|_| Err(Error::Io(ErrorKind::TimedOut.into())))
    }

    /// Sets the outcome. Without this call, the statement is recorded as cancelled.
    pub(super) fn finish<T>(&mut self, outcome: Result<&T, &Error>) {
        // An empty result is not a failure.
        let error = outcome
            .err()
            .filter(|error| !matches!(error, Error::RowNotFound));
        self.failure = error.map(error_type);
        let code = error.and_then(Error::as_database_error);
        self.code = code.and_then(DatabaseError::code).map(Cow::into_owned);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let duration = self.started.elapsed().as_secs_f64();
        let (failure, code) = (self.failure.take(), self.code.take());
        let span = self.span.span();
        if span.is_recording() {
            let mut attributes = Attributes(Vec::new());
            let waited = self.waited.map(|waited| waited.as_secs_f64());
            attributes.add_some(semconv::DB_CONNECTION_WAIT, waited);
            attributes.add_some(semconv::DB_RESPONSE_STATUS_CODE, code.clone());
            let has_rows = self.statement.is_select && failure.is_none();
            let rows = has_rows.then_some(self.rows);
            attributes.add_some(semconv::DB_RESPONSE_RETURNED_ROWS, rows);
            span.set_attributes(attributes.0);
            if let Some(failure) = &failure {
                edge::fail(&span, failure.clone(), failure.clone());
            }
        }
        span.end();
        let Some(failure) = failure else {
            self.statement.duration.record(duration);
            return;
        };
        let mut attributes = Attributes(self.statement.attributes.clone());
        attributes.add_some(semconv::DB_RESPONSE_STATUS_CODE, code);
        attributes.add(semconv::ERROR_TYPE, failure);
        DURATION.record(duration, &attributes.0);
    }
}

/// Returns the SQL text of a statement that has parameters, or neither parameters nor literals. In any
/// other text, the literals may be values of users: by convention, only parameterized or sanitized text is
/// recorded.
fn recordable(sql: &str, parameters: usize) -> Option<&str> {
    let has_literal = || sql.contains(|c: char| c == '\'' || c.is_ascii_digit());
    (parameters > 0 || !has_literal()).then_some(sql)
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

//! An sqlx executor that wraps another executor and creates a span for each statement.
//!
//! It implements the four required methods. The default implementations of `fetch_one`,
//! `fetch_all`, `execute` and `fetch` call these, so `RowNotFound` is created outside of the span.

use async_stream::stream;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Arguments as _, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tracing::Instrument;

use super::{Pool, Target, call::Call};

/// The maximum number of rows that one poll handles.
const CHUNK: usize = 128;

/// Runs one statement inside its span. [`Session::on`](super::Session::on) returns it.
#[derive(Debug)]
pub struct TracedExecutor<'c> {
    inner: Inner<'c>,
    call: Call,
}

/// The executor that the statement runs on.
#[derive(Debug)]
pub(super) enum Inner<'c> {
    Pool(&'c Pool),
    Connection(&'c mut PgConnection),
}

impl<'c> TracedExecutor<'c> {
    pub(super) fn new(
        inner: Inner<'c>,
        target: &Target,
        operation: &'static str,
        collection: &'static str,
    ) -> Self {
        Self {
            inner,
            call: Call::begin(target, operation, collection),
        }
    }
}

impl<'c> Executor<'c> for TracedExecutor<'c> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, Q>(
        self,
        query: Q,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Postgres>,
    {
        let Self { inner, mut call } = self;
        let query = Query::of(query, &call);
        let steps = stream! {
            let mut acquired;
            let connection = match inner {
                Inner::Connection(connection) => connection,
                Inner::Pool(pool) => match pool.acquire(&call).await {
                    Ok(connection) => {
                        acquired = connection;
                        &mut *acquired
                    }
                    Err(error) => {
                        call.finish::<()>(Err(&error));
                        yield Err(error);
                        return;
                    }
                },
            };
            // Rows that have arrived are handled together, so the span is entered once per poll and
            // not once per row.
            let mut chunks = connection.fetch_many(query).ready_chunks(CHUNK);
            while let Some(steps) = chunks.next().instrument(call.span.clone()).await {
                for step in steps {
                    match &step {
                        Ok(Either::Right(_)) => call.rows = call.rows.map(|rows| rows + 1),
                        Ok(Either::Left(end)) => call.finish(Ok(end)),
                        Err(error) => call.finish::<()>(Err(error)),
                    }
                    yield step;
                }
            }
        };
        steps.boxed()
    }

    fn fetch_optional<'e, 'q: 'e, Q>(self, query: Q) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Postgres>,
    {
        let Self { inner, mut call } = self;
        let query = Query::of(query, &call);
        async move {
            let row = match inner {
                Inner::Connection(connection) => {
                    let row = connection.fetch_optional(query);
                    row.instrument(call.span.clone()).await
                }
                Inner::Pool(pool) => match pool.acquire(&call).await {
                    Ok(mut connection) => {
                        let row = connection.fetch_optional(query);
                        row.instrument(call.span.clone()).await
                    }
                    Err(error) => Err(error),
                },
            };
            if let Ok(Some(_)) = row {
                call.rows = call.rows.map(|rows| rows + 1);
            }
            call.finish(row.as_ref());
            row
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        match self.inner {
            Inner::Pool(pool) => pool.inner.prepare_with(sql, parameters),
            Inner::Connection(connection) => connection.prepare_with(sql, parameters),
        }
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        match self.inner {
            Inner::Pool(pool) => pool.inner.describe(sql),
            Inner::Connection(connection) => connection.describe(sql),
        }
    }
}

/// A query whose SQL text and arguments have been taken out.
struct Query {
    statement: Option<PgStatement>,
    arguments: Option<Result<Option<PgArguments>, BoxDynError>>,
    persistent: bool,
    sql: SqlStr,
}

impl Query {
    fn of<'q>(mut query: impl Execute<'q, Postgres>, call: &Call) -> Self {
        let statement = query.statement().cloned();
        let arguments = query.take_arguments();
        let parameters = match &arguments {
            Ok(Some(arguments)) => arguments.len(),
            _ => 0,
        };
        let persistent = query.persistent();
        let sql = query.sql();
        call.record_query_text(sql.as_str(), parameters);
        Self {
            statement,
            arguments: Some(arguments),
            persistent,
            sql,
        }
    }
}

impl Execute<'_, Postgres> for Query {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.arguments.take().unwrap_or(Ok(None))
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

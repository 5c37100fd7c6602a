//! An sqlx executor that wraps another executor and creates a span for each statement.
//!
//! It implements the four required methods. The default implementations of `fetch_one`,
//! `fetch_all`, `execute` and `fetch` call these, so `RowNotFound` is created outside of the span.

use std::sync::Arc;

use async_stream::stream;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Arguments as _, Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::{
    call::{Call, Statement},
    pool::{Pool, PooledConnection},
};

/// The maximum number of rows that one poll handles.
const CHUNK: usize = 128;

/// Runs one statement inside its span. [`Session::on`](super::Session::on) returns it.
#[derive(Debug)]
pub struct TracedExecutor<'c> {
    pub(super) inner: Inner<'c>,
    pub(super) statement: Arc<Statement>,
}

/// The executor that the statement runs on.
#[derive(Debug)]
pub(super) enum Inner<'c> {
    Pool(&'c Pool),
    Connection(&'c mut PgConnection),
}

impl<'c> Inner<'c> {
    /// Returns the connection for a statement. A connection of the pool is stored in `acquired`.
    async fn connection<'a>(
        self,
        call: &mut Call,
        acquired: &'a mut Option<PooledConnection>,
    ) -> sqlx::Result<&'a mut PgConnection>
    where
        'c: 'a,
    {
        match self {
            Self::Connection(connection) => Ok(connection),
            Self::Pool(pool) => Ok(acquired.insert(pool.acquire(call).await?)),
        }
    }
}

/// Says that the statement on a connection of the pool has ended.
fn release(acquired: Option<PooledConnection>) {
    if let Some(mut connection) = acquired {
        connection.set_idle();
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
        let Self { inner, statement } = self;
        let query = Query::of(query);
        let mut call = query.begin(statement);
        let steps = stream! {
            let mut acquired = None;
            let connection = match inner.connection(&mut call, &mut acquired).await {
                Ok(connection) => connection,
                Err(error) => {
                    call.finish::<()>(Err(&error));
                    yield Err(error);
                    return;
                }
            };
            // Rows that have arrived are handled together, so the span is entered once per poll and
            // not once per row.
            let mut has_failed = false;
            let mut chunks = connection.fetch_many(query).ready_chunks(CHUNK);
            loop {
                let steps = match call.answer(async { Ok(chunks.next().await) }).await {
                    Ok(Some(steps)) => steps,
                    Ok(None) => break,
                    Err(error) => vec![Err(error)],
                };
                for step in steps {
                    match &step {
                        Ok(Either::Right(_)) => call.rows += 1,
                        Ok(Either::Left(end)) => call.finish(Ok(end)),
                        Err(error) => {
                            has_failed = true;
                            call.finish::<()>(Err(error));
                        }
                    }
                    yield step;
                }
                if has_failed {
                    return;
                }
            }
            drop(chunks);
            release(acquired);
        };
        steps.boxed()
    }

    fn fetch_optional<'e, 'q: 'e, Q>(self, query: Q) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Postgres>,
    {
        let Self { inner, statement } = self;
        let query = Query::of(query);
        let mut call = query.begin(statement);
        async move {
            let mut acquired = None;
            let row = match inner.connection(&mut call, &mut acquired).await {
                Ok(connection) => call.answer(connection.fetch_optional(query)).await,
                Err(error) => Err(error),
            };
            if row.is_ok() {
                release(acquired);
            }
            if let Ok(Some(_)) = row {
                call.rows += 1;
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
        let Self { inner, statement } = self;
        let mut call = Call::begin(statement, None);
        async move {
            let mut acquired = None;
            let prepared = match inner.connection(&mut call, &mut acquired).await {
                Ok(connection) => call.answer(connection.prepare_with(sql, parameters)).await,
                Err(error) => Err(error),
            };
            if prepared.is_ok() {
                release(acquired);
            }
            call.finish(prepared.as_ref());
            prepared
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        let Self { inner, statement } = self;
        let mut call = Call::begin(statement, None);
        async move {
            let mut acquired = None;
            let described = match inner.connection(&mut call, &mut acquired).await {
                Ok(connection) => call.answer(connection.describe(sql)).await,
                Err(error) => Err(error),
            };
            if described.is_ok() {
                release(acquired);
            }
            call.finish(described.as_ref());
            described
        }
        .boxed()
    }
}

/// A query whose SQL text and arguments have been taken out.
struct Query {
    parameters: usize,
    statement: Option<PgStatement>,
    arguments: Option<Result<Option<PgArguments>, BoxDynError>>,
    persistent: bool,
    sql: SqlStr,
}

impl Query {
    fn of<'q>(mut query: impl Execute<'q, Postgres>) -> Self {
        let statement = query.statement().cloned();
        let arguments = query.take_arguments();
        let parameters = match &arguments {
            Ok(Some(arguments)) => arguments.len(),
            _ => 0,
        };
        Self {
            parameters,
            statement,
            arguments: Some(arguments),
            persistent: query.persistent(),
            sql: query.sql(),
        }
    }

    /// Starts the call.
    fn begin(&self, statement: Arc<Statement>) -> Call {
        Call::begin(statement, Some((self.sql.as_str(), self.parameters)))
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

//! Tests of the schema: the plans of the queries on large tables, and an older binary beside a newer schema.

use std::{fs, path::Path, rc::Rc};

use book_events::BOOK_EVENTS;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testbed::{
    kafka::Kafka,
    postgres::{Postgres, execute},
};

use crate::helpers::spawn_app_on;

/// The tables that grow with the use of the system.
const TABLES: [&str; 5] = [
    "books",
    "book_details",
    "outbox",
    "ledger",
    "idempotency_keys",
];

/// A million rows in each table. 100 messages are pending.
const ROWS: &str = "
    set session_replication_role = replica; -- without the checks of foreign keys
    insert into books (title, author) select 'T', 'A' from generate_series(1, 1000000);
    insert into book_details (book_id, slug, initials, sort_title, checksum)
        select n, 't', 'A', 'T', '' from generate_series(1, 1000000) n;
    insert into ledger (event_id, processed_at)
        select 'e-' || n, now() - n * interval '1 s' from generate_series(1, 1000000) n;
    insert into idempotency_keys (key, fingerprint, book_ids, created_at)
        select 'k-' || n, '', '{1}', now() - n * interval '100 ms' from generate_series(1, 1000000) n;
    insert into outbox (event_id, topic, key, payload, headers, created_at, published_at)
        select 'e-' || n, 't', n::text, '{}', '{}', now(),
            case when n > 100 then now() - n * interval '100 ms' end
        from generate_series(1, 1000000) n;
    analyze";

#[tokio::test]
async fn with_a_million_rows_every_query_uses_an_index() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    execute(&database_url, ROWS).await.unwrap();
    let mut connection = PgConnection::connect(&database_url).await.unwrap();
    sqlx::raw_sql("set plan_cache_mode = force_generic_plan")
        .execute(&mut connection)
        .await
        .unwrap();
    let queries = queries();
    assert!(queries.len() > 20, "{}", queries.len());
    for (query, parameters) in queries {
        let prepare = format!("prepare checked as {query}");
        sqlx::raw_sql(AssertSqlSafe(prepare))
            .execute(&mut connection)
            .await
            .unwrap();
        let nulls = vec!["null"; parameters].join(", ");
        let arguments = if parameters == 0 {
            String::new()
        } else {
            format!("({nulls})")
        };
        let explain = format!("explain execute checked{arguments}");
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for table in TABLES {
            let scan = format!("Seq Scan on {table} ");
            let is_scan = |line: &String| line.contains(&scan);
            assert!(!plan.iter().any(is_scan), "{query}\n{}", plan.join("\n"));
        }
        sqlx::raw_sql("deallocate checked")
            .execute(&mut connection)
            .await
            .unwrap();
    }
}

/// Returns the checked queries of both services with the number of their parameters.
fn queries() -> Vec<(String, usize)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.sqlx");
    let files = fs::read_dir(folder).unwrap();
    let query = |file: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let query: Value = serde_json::from_str(&text).unwrap();
        let parameters = query["describe"]["parameters"]["Left"].as_array();
        (
            query["query"].as_str().unwrap().to_owned(),
            parameters.map_or(0, Vec::len),
        )
    };
    files.map(query).collect()
}

#[tokio::test]
async fn an_older_binary_starts_beside_a_newer_schema() {
    let database_url = Postgres::shared().await.unwrap().database().await.unwrap();
    execute(
        &database_url,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of a newer binary', true, ''::bytea, 0)",
    )
    .await
    .unwrap();
    let app = spawn_app_on(
        database_url,
        Rc::new(Kafka::start(&[BOOK_EVENTS]).unwrap()),
        &[],
    )
    .await;
    app.add_book("Emma", "Jane Austen").await;
    app.finish().await;
}

"""Dashboard "PostgreSQL": statistics of the server and query latency of the services."""

from panels import board, fill, quantile, rate, row, series, share


def dashboard():
    blocks = "postgresql_blocks_read_total"
    return fill(
        board(
            "postgresql",
            "PostgreSQL",
            "Statistics of the server, and query latency as the services measure it.",
        ),
        row(
            "Activity",
            series(
                "Transaction rate",
                "short",
                (rate("postgresql_commits_total"), "commits"),
                (rate("postgresql_rollbacks_total"), "rollbacks"),
                about="Transactions per second in the application's database. Many rollbacks mean"
                " failing statements or conflicts.",
            ),
            series(
                "Row changes by operation",
                "short",
                (
                    rate("postgresql_operations_total", "postgresql_table_name", "operation"),
                    "{{operation}} {{postgresql_table_name}}",
                ),
                about="Changed rows per second: ins, upd, hot_upd, del. A hot_upd does not touch"
                " the indexes, so many upd and few hot_upd make writes expensive.",
            ),
            series(
                "Database span latency p95",
                "s",
                (
                    quantile(
                        0.95,
                        "traces_span_metrics_duration_seconds",
                        "span_name",
                        where='db_system_name="postgresql"',
                    ),
                    "{{span_name}} p95",
                ),
                about="p95 of the database spans of the services. A high value means a slow"
                " statement, a lock or an exhausted pool. An exemplar opens its trace, if"
                " tail sampling kept the trace.",
                exemplars=True,
            ),
        ),
        row(
            "Connections and locks",
            series(
                "Connections",
                "short",
                ("sum(postgresql_backends)", "open"),
                ("max(postgresql_connection_max)", "max"),
                about="Open connections of all clients, and the server's limit. At the limit, the"
                " server rejects new connections.",
            ),
            series(
                "Locks",
                "short",
                ("sum by (mode) (postgresql_database_locks)", "{{mode}}"),
                about="Locks by mode at the time of each collection. Many exclusive locks mean"
                " that transactions wait for each other.",
            ),
            series(
                "Deadlocks",
                "short",
                ("sum(increase(postgresql_deadlocks_total[$__rate_interval]))", "deadlocks"),
                about="Deadlocks since the previous point. Any value above 0 means that"
                " transactions lock rows in different orders.",
            ),
        ),
        row(
            "Tables",
            series(
                "Live and dead rows",
                "short",
                (
                    "sum by (postgresql_table_name, state) (postgresql_rows)",
                    "{{postgresql_table_name}} {{state}}",
                ),
                about="Rows by table and state. Dead rows that only grow mean that vacuum is"
                " behind.",
            ),
            series(
                "Age of the oldest row",
                "s",
                (
                    "max by (collection) (bookapp_db_oldest_row_age_seconds)",
                    "{{collection}}",
                ),
                about="Age of the oldest row of the tables that are pruned: sent messages of the"
                " outbox after 24 hours, ids of processed events after 30 days.",
            ),
            series(
                "Table size",
                "bytes",
                (
                    "sum by (postgresql_table_name) (postgresql_table_size_bytes)",
                    "{{postgresql_table_name}}",
                ),
                about="Size of each table without its indexes. A size that grows faster than the"
                " live rows means bloat.",
                stacked=True,
            ),
            series(
                "Cache hit ratio",
                "percentunit",
                (
                    share(
                        rate(blocks, where='source=~".*_hit"'),
                        rate(blocks),
                    ),
                    "hit ratio",
                ),
                about="Share of blocks found in PostgreSQL's buffers; the rest come from the disk"
                " or the page cache. A low ratio means that shared_buffers is too small for"
                " the load.",
            ),
            series(
                "Index scan rate",
                "short",
                (
                    rate("postgresql_index_scans_total", "postgresql_index_name"),
                    "{{postgresql_index_name}}",
                ),
                about="Index scans per second. An index without scans only slows down writes.",
                width=12,
            ),
            series(
                "Books stored",
                "short",
                ("sum(bookapp_db_books)", "books"),
                about="Rows in the table books, counted by a query of the collector.",
                width=12,
            ),
        ),
    )

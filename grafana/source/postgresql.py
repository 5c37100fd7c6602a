"""PostgreSQL, as it sees itself and as the services see it."""

from panels import board, fill, quantile, rate, row, series, share


def dashboard():
    blocks = "postgresql_blocks_read_total"
    return fill(
        board("postgresql", "PostgreSQL", "As it sees itself, and as the services see it."),
        row(
            "Work",
            series(
                "Transactions",
                "short",
                (rate("postgresql_commits_total"), "committed a second"),
                (rate("postgresql_rollbacks_total"), "rolled back a second"),
                about="Of the application's database.",
            ),
            series(
                "Rows changed",
                "short",
                (
                    rate("postgresql_operations_total", "postgresql_table_name", "operation"),
                    "{{operation}} {{postgresql_table_name}}",
                ),
                about="A second: ins, upd, hot_upd (an update that left the indexes alone), del.",
            ),
            series(
                "Statements take",
                "s",
                (
                    quantile(
                        0.95,
                        "traces_span_metrics_duration_seconds",
                        "span_name",
                        where='db_system_name="postgresql"',
                    ),
                    "{{span_name}}",
                ),
                about="95 of 100, as the services see them. A point opens its trace, if kept.",
                exemplars=True,
            ),
        ),
        row(
            "Connections and locks",
            series(
                "Connections",
                "short",
                ("sum(postgresql_backends)", "open"),
                ("max(postgresql_connection_max)", "may be open"),
                about="Of all clients.",
            ),
            series(
                "Locks held",
                "short",
                ("sum by (mode) (postgresql_database_locks)", "{{mode}}"),
                about="At the moment of each scrape.",
            ),
            series(
                "Deadlocks",
                "short",
                ("sum(increase(postgresql_deadlocks_total[$__rate_interval]))", "deadlocks"),
                about="There should be none.",
            ),
        ),
        row(
            "Tables",
            series(
                "Rows",
                "short",
                (
                    "sum by (postgresql_table_name, state) (postgresql_rows)",
                    "{{postgresql_table_name}} {{state}}",
                ),
                about="Dead ones wait for vacuum.",
            ),
            series(
                "Size",
                "bytes",
                (
                    "sum by (postgresql_table_name) (postgresql_table_size_bytes)",
                    "{{postgresql_table_name}}",
                ),
                about="Of the table alone, its indexes left out.",
                stacked=True,
            ),
            series(
                "Blocks found in memory",
                "percentunit",
                (
                    share(
                        rate(blocks, where='source=~".*_hit"'),
                        rate(blocks),
                    ),
                    "share",
                ),
                about="The rest came from the disk, or the system's own cache.",
            ),
            series(
                "Index scans",
                "short",
                (
                    rate("postgresql_index_scans_total", "postgresql_index_name"),
                    "{{postgresql_index_name}}",
                ),
                about="A second; an index that is never used is only a cost.",
                width=12,
            ),
            series(
                "Books",
                "short",
                ("sum(bookapp_db_books)", "books"),
                about="Counted by the collector with a query of its own.",
                width=12,
            ),
        ),
    )

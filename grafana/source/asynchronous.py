"""Dashboard "Asynchronous processing": outbox, Kafka topic, worker, retries and dead letters."""

from panels import board, fill, lines, quantile, rate, row, series, traces


def dashboard():
    sent, processed = "messaging_client_sent_messages_total", "messaging_process_duration_seconds"
    return fill(
        board(
            "asynchronous",
            "Asynchronous processing",
            "The path of a book after its HTTP response: outbox, Kafka, worker.",
        ),
        row(
            "End to end",
            series(
                "End-to-end latency p50, p95, p99",
                "s",
                (quantile(0.5, "bookapp_ingestion_delay_seconds"), "p50"),
                (quantile(0.95, "bookapp_ingestion_delay_seconds"), "p95"),
                (quantile(0.99, "bookapp_ingestion_delay_seconds"), "p99"),
                about="Time from a change of a book to that of its details. A rise means that the"
                " outbox or the worker has a backlog.",
                width=12,
            ),
            series(
                "Book throughput",
                "short",
                (rate("bookapp_books_added_total"), "added"),
                (rate(sent), "sent"),
                (rate(f"{processed}_count"), "processed"),
                about="Books added, messages sent and processing attempts per second. The three"
                " lines diverge while a backlog grows or shrinks.",
                width=12,
            ),
        ),
        row(
            "Outbox",
            series(
                "Outbox backlog",
                "short",
                ("sum(bookapp_outbox_pending)", "pending messages"),
                about="Messages that are committed to the outbox and not yet acknowledged by"
                " Kafka. A growing backlog means that Kafka or the relay does not work.",
            ),
            series(
                "Oldest unsent message",
                "s",
                ("max(bookapp_outbox_oldest_age_seconds)", "age"),
                about="Age of the oldest pending message in the outbox. It grows by 1 s per second"
                " while nothing is sent.",
            ),
            series(
                "Kafka send latency",
                "s",
                (quantile(0.5, "messaging_client_operation_duration_seconds"), "p50"),
                (quantile(0.95, "messaging_client_operation_duration_seconds"), "p95"),
                about="Time until the Kafka broker acknowledges a message. A high value means that"
                " the broker is slow or unreachable.",
            ),
        ),
        row(
            "Worker",
            series(
                "Consumer lag",
                "short",
                (
                    "sum by (messaging_destination_partition_id) (bookapp_consumer_lag)",
                    "partition {{messaging_destination_partition_id}}",
                ),
                about="Messages on the topic behind the offset that the worker has stored. Growing"
                " lag means that the worker is too slow, or that a message blocks its"
                " partition.",
                width=12,
            ),
            series(
                "Processing latency",
                "s",
                (quantile(0.5, processed), "p50"),
                (quantile(0.95, processed), "p95"),
                about="Duration of one processing attempt of one message. A high value reduces the"
                " throughput of the worker.",
                width=12,
            ),
            series(
                "Messages per batch",
                "short",
                (quantile(0.5, "bookapp_consumer_batch_size"), "p50"),
                (quantile(0.95, "bookapp_consumer_batch_size"), "p95"),
                about="Messages of a partition that were processed in one transaction: those that"
                " arrived while it was busy. It grows with the load.",
                width=12,
            ),
            series(
                "Retries and dead letters",
                "short",
                (rate("bookapp_consumer_retries_total", "error_type"), "retry: {{error_type}}"),
                (
                    rate("bookapp_consumer_dead_letters_total", "error_type"),
                    "dead letter: {{error_type}}",
                ),
                about="Retries and dead letters per second. The worker retries transient errors"
                " and sends messages with permanent errors to the dead-letter topic.",
                width=12,
            ),
        ),
        row(
            "Dead letters",
            series(
                "Dead letters in Kafka",
                "short",
                (
                    'sum by (topic) (kafka_partition_current_offset{topic=~".*dead-letter"}'
                    " - kafka_partition_oldest_offset)",
                    "{{topic}}",
                ),
                about="Dead letters that Kafka keeps, handled or not. `backend dead-letters list`"
                " lists those that nobody has replayed or discarded.",
                width=12,
            ),
            series(
                "Dead letters since the start of the worker",
                "short",
                (
                    "sum by (error_type) (bookapp_consumer_dead_letters_total)",
                    "{{error_type}}",
                ),
                about="Dead letters by the reason why the last attempt failed. The reasons have"
                " different remedies: see the runbook DeadLetters.",
                width=12,
            ),
        ),
        row(
            "Operations measured by their spans",
            series(
                "Operation rate",
                "short",
                (rate("bookapp_outbox_relay_total", "span_name", "result"), "{{span_name}} {{result}}"),
                (rate("bookapp_details_derive_total", "span_name", "result"), "{{span_name}} {{result}}"),
                about="Relayed batches and derived details per second, by result. The metrics layer"
                " measures these spans, which no trace contains.",
                width=12,
            ),
            series(
                "Operation latency p95",
                "s",
                (quantile(0.95, "bookapp_outbox_relay_duration_seconds"), "relay_batch"),
                (quantile(0.95, "bookapp_details_derive_duration_seconds"), "derive"),
                about="Duration of one batch of the relay, and of one derivation without the"
                " database. A rise of the first means that Kafka or PostgreSQL is slow.",
                width=12,
            ),
        ),
        row(
            "Traces and logs",
            traces(
                "Traces: message processing",
                "{ kind = consumer }",
                about="Newest traces of the worker. Each message has its own trace, and a span"
                " link leads to the trace of the request.",
                width=12,
            ),
            traces(
                "Traces: message creation",
                "{ kind = producer }",
                about="Newest traces that create a message. On the span, the link 'Consumers of"
                " this message' opens the trace of the worker.",
                width=12,
            ),
            lines(
                "Worker logs",
                '{service_name="backend"}',
                about="Log records of the worker. A retry is logged at WARN, a dead letter at"
                " ERROR.",
            ),
        ),
    )

"""From the request to the worker: outbox, topic, retries, dead letters."""

from panels import board, fill, lines, quantile, rate, row, series, traces


def dashboard():
    sent, processed = "messaging_client_sent_messages_total", "messaging_process_duration_seconds"
    return fill(
        board(
            "asynchronous",
            "From the request to the worker",
            "What happens to a book after its request was answered.",
        ),
        row(
            "How long a book takes",
            series(
                "From the request to the details",
                "s",
                (quantile(0.5, "bookapp_ingestion_delay_seconds"), "50 %"),
                (quantile(0.95, "bookapp_ingestion_delay_seconds"), "95 %"),
                (quantile(0.99, "bookapp_ingestion_delay_seconds"), "99 %"),
                about="From when a book was written down to when its details were committed.",
                width=12,
            ),
            series(
                "Books",
                "short",
                (rate("bookapp_books_added_total"), "added a second"),
                (rate(sent), "sent a second"),
                (rate(f"{processed}_count"), "processed a second"),
                about="The three lines part when something waits.",
                width=12,
            ),
        ),
        row(
            "Outbox",
            series(
                "Messages that wait",
                "short",
                ("sum(bookapp_outbox_pending)", "in the outbox"),
                about="Written with their book, not acknowledged by Kafka yet.",
            ),
            series(
                "The oldest waits for",
                "s",
                ("max(bookapp_outbox_oldest_age_seconds)", "oldest"),
                about="It grows by a second a second while nothing is sent.",
            ),
            series(
                "Sending takes",
                "s",
                (quantile(0.5, "messaging_client_operation_duration_seconds"), "50 %"),
                (quantile(0.95, "messaging_client_operation_duration_seconds"), "95 %"),
                about="Until the broker acknowledged.",
            ),
        ),
        row(
            "Worker",
            series(
                "Messages that wait",
                "short",
                (
                    "sum by (messaging_destination_partition_id) (bookapp_consumer_lag)",
                    "partition {{messaging_destination_partition_id}}",
                ),
                about="On the topic, behind what the worker has stored.",
            ),
            series(
                "Processing takes",
                "s",
                (quantile(0.5, processed), "50 %"),
                (quantile(0.95, processed), "95 %"),
                about="One attempt at one message.",
            ),
            series(
                "Tried again, given up",
                "short",
                (rate("bookapp_consumer_retries_total", "error_type"), "again: {{error_type}}"),
                (
                    rate("bookapp_consumer_dead_letters_total", "error_type"),
                    "dead letter: {{error_type}}",
                ),
                about="A second. Transient errors are tried again, permanent ones given up.",
            ),
        ),
        row(
            "Traces and logs",
            traces(
                "Processed messages",
                "{ kind = consumer }",
                about="Each in a trace of its own; its link leads to the request's trace.",
                width=12,
            ),
            traces(
                "Created messages",
                "{ kind = producer }",
                about="A span's link 'Who consumed this message' leads to the worker's trace.",
                width=12,
            ),
            lines(
                "What the worker says",
                '{service_name="backend"}',
                about="Retries and dead letters are warnings and errors.",
            ),
        ),
    )

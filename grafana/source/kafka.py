"""Dashboard "Kafka": metrics of the broker that the collector reads over Kafka's protocol."""

from panels import board, fill, number, rate, row, series


def dashboard():
    return fill(
        board("kafka", "Kafka", "Brokers, topics and consumer groups."),
        row(
            "Brokers",
            number(
                "Brokers",
                "short",
                "max(kafka_brokers)",
                about="Brokers in the cluster. Fewer than expected means that a broker is down.",
            ),
            number(
                "Partitions",
                "short",
                "sum(kafka_topic_partitions)",
                about="Partitions of all topics. 0 means that no topic exists yet.",
            ),
            number(
                "In-sync replicas",
                "percentunit",
                "sum(kafka_partition_replicas_in_sync) / sum(kafka_partition_replicas)",
                about="Share of replicas that are in sync. Below 100 %, a broker is down or"
                " behind.",
            ),
        ),
        row(
            "Topics",
            series(
                "Messages produced by topic",
                "short",
                (
                    "sum by (topic) (rate(kafka_partition_current_offset[$__rate_interval]))",
                    "{{topic}}",
                ),
                about="Messages per second, from the growth of the newest offsets. 0 under load"
                " means that the relay does not send.",
                width=12,
            ),
            series(
                "Messages retained by topic",
                "short",
                (
                    "sum by (topic)"
                    " (kafka_partition_current_offset - kafka_partition_oldest_offset)",
                    "{{topic}}",
                ),
                about="Messages between the oldest and the newest offset. A growing number on the"
                " dead-letter topic means that messages fail.",
                width=12,
            ),
        ),
        row(
            "Consumers",
            series(
                "Consumer lag (committed offsets)",
                "short",
                (
                    "sum by (group, topic, partition) (kafka_consumer_group_lag)",
                    "{{group}} {{topic}} {{partition}}",
                ),
                about="Messages between the newest offset and the committed offset of the group."
                " Growing lag means that the worker is down or too slow.",
                width=12,
            ),
            series(
                "Committed offset rate",
                "short",
                (
                    "sum by (group, topic) (rate(kafka_consumer_group_offset[$__rate_interval]))",
                    "{{group}} {{topic}}",
                ),
                about="Messages per second that the group commits. 0 while messages arrive means"
                " that the worker makes no progress.",
                width=12,
            ),
            series(
                "Messages sent by partition",
                "short",
                (
                    rate(
                        "messaging_client_sent_messages_total",
                        "messaging_destination_name",
                        "messaging_destination_partition_id",
                    ),
                    "{{messaging_destination_name}} {{messaging_destination_partition_id}}",
                ),
                about="Messages per second that the services send. All messages of one book go to"
                " the same partition. One partition with most of the load is a hot key.",
                width=12,
            ),
            series(
                "Messages received by partition",
                "short",
                (
                    rate(
                        "messaging_client_consumed_messages_total",
                        "messaging_destination_name",
                        "messaging_destination_partition_id",
                    ),
                    "{{messaging_destination_name}} {{messaging_destination_partition_id}}",
                ),
                about="Messages per second that the worker receives. 0 on one partition while it"
                " has lag means that a message blocks the partition.",
                width=12,
            ),
        ),
    )

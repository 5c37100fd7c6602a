"""Kafka, as the collector sees it from outside."""

from panels import board, fill, number, rate, row, series


def dashboard():
    return fill(
        board("kafka", "Kafka", "Brokers, topics and consumer groups, seen from outside."),
        row(
            "Brokers",
            number("Brokers", "short", "max(kafka_brokers)", about="In the cluster."),
            number(
                "Partitions",
                "short",
                "sum(kafka_topic_partitions)",
                about="Of all topics of the application.",
            ),
            number(
                "In sync",
                "percentunit",
                "sum(kafka_partition_replicas_in_sync) / sum(kafka_partition_replicas)",
                about="Of all replicas; less than all is a broker that fell behind.",
            ),
            number(
                "Workers",
                "short",
                "sum(kafka_consumer_group_members)",
                about="Members of the consumer group.",
            ),
        ),
        row(
            "Topics",
            series(
                "Messages written",
                "short",
                (
                    "sum by (topic) (rate(kafka_partition_current_offset[$__rate_interval]))",
                    "{{topic}}",
                ),
                about="A second, by the newest offsets.",
                width=12,
            ),
            series(
                "Messages kept",
                "short",
                (
                    "sum by (topic)"
                    " (kafka_partition_current_offset - kafka_partition_oldest_offset)",
                    "{{topic}}",
                ),
                about="From the oldest offset to the newest.",
                width=12,
            ),
        ),
        row(
            "Consumers",
            series(
                "Lag",
                "short",
                (
                    "sum by (group, topic, partition) (kafka_consumer_group_lag)",
                    "{{group}} {{topic}} {{partition}}",
                ),
                about="Messages behind the newest, by the group's committed offsets.",
                width=12,
            ),
            series(
                "Offsets committed",
                "short",
                (
                    "sum by (group, topic) (rate(kafka_consumer_group_offset[$__rate_interval]))",
                    "{{group}} {{topic}}",
                ),
                about="A second.",
                width=12,
            ),
            series(
                "Messages by partition, as bookapp sends them",
                "short",
                (
                    rate(
                        "messaging_client_sent_messages_total",
                        "messaging_destination_name",
                        "messaging_destination_partition_id",
                    ),
                    "{{messaging_destination_name}} {{messaging_destination_partition_id}}",
                ),
                about="A second; a book's messages are all on one partition.",
                width=12,
            ),
            series(
                "Messages by partition, as backend receives them",
                "short",
                (
                    rate(
                        "messaging_client_consumed_messages_total",
                        "messaging_destination_name",
                        "messaging_destination_partition_id",
                    ),
                    "{{messaging_destination_name}} {{messaging_destination_partition_id}}",
                ),
                about="A second.",
                width=12,
            ),
        ),
    )

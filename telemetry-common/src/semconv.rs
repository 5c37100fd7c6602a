//! Names of attributes and metrics, and bucket boundaries of histograms.
//!
//! The standard names are re-exported from the semantic conventions. The names that this crate adds
//! are defined here, with the prefix `telemetry_common.`, except `sentry.event_id`. A service
//! defines the names of its own domain itself (prefix `bookapp.` in this project).

pub use opentelemetry_semantic_conventions::{
    SCHEMA_URL,
    attribute::{
        CLIENT_ADDRESS, CODE_FILE_PATH, CODE_LINE_NUMBER, CPU_MODE, DB_CLIENT_CONNECTION_POOL_NAME,
        DB_CLIENT_CONNECTION_STATE, DB_COLLECTION_NAME, DB_NAMESPACE, DB_OPERATION_NAME,
        DB_QUERY_SUMMARY, DB_QUERY_TEXT, DB_RESPONSE_RETURNED_ROWS, DB_RESPONSE_STATUS_CODE,
        DB_SYSTEM_NAME, DISK_IO_DIRECTION, ERROR_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE,
        EXCEPTION_TYPE, HOST_ARCH, HOST_NAME, HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL,
        HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_CLIENT_ID,
        MESSAGING_CONSUMER_GROUP_NAME, MESSAGING_DESTINATION_NAME,
        MESSAGING_DESTINATION_PARTITION_ID, MESSAGING_KAFKA_MESSAGE_KEY,
        MESSAGING_KAFKA_MESSAGE_TOMBSTONE, MESSAGING_KAFKA_OFFSET, MESSAGING_MESSAGE_BODY_SIZE,
        MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
        NETWORK_IO_DIRECTION, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT, NETWORK_PROTOCOL_VERSION,
        OS_TYPE, OTEL_COMPONENT_NAME, OTEL_COMPONENT_TYPE, OTEL_SPAN_PARENT_ORIGIN,
        OTEL_SPAN_SAMPLING_RESULT, PROCESS_COMMAND, PROCESS_CONTEXT_SWITCH_TYPE,
        PROCESS_CREATION_TIME, PROCESS_PID, RPC_METHOD, RPC_METHOD_ORIGINAL,
        RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME, SERVER_ADDRESS, SERVER_PORT,
        SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, SYSTEM_PAGING_FAULT_TYPE, URL_FULL,
        URL_PATH, URL_QUERY, URL_SCHEME, URL_TEMPLATE, USER_AGENT_ORIGINAL,
    },
    metric::{
        DB_CLIENT_CONNECTION_COUNT, DB_CLIENT_CONNECTION_IDLE_MIN, DB_CLIENT_CONNECTION_MAX,
        DB_CLIENT_CONNECTION_PENDING_REQUESTS, DB_CLIENT_CONNECTION_TIMEOUTS,
        DB_CLIENT_CONNECTION_WAIT_TIME, DB_CLIENT_OPERATION_DURATION, HTTP_CLIENT_REQUEST_DURATION,
        HTTP_SERVER_ACTIVE_REQUESTS, HTTP_SERVER_REQUEST_BODY_SIZE, HTTP_SERVER_REQUEST_DURATION,
        HTTP_SERVER_RESPONSE_BODY_SIZE, MESSAGING_CLIENT_CONSUMED_MESSAGES,
        MESSAGING_CLIENT_OPERATION_DURATION, MESSAGING_CLIENT_SENT_MESSAGES,
        MESSAGING_PROCESS_DURATION, PROCESS_CONTEXT_SWITCHES, PROCESS_CPU_TIME, PROCESS_DISK_IO,
        PROCESS_MEMORY_USAGE, PROCESS_MEMORY_VIRTUAL, PROCESS_PAGING_FAULTS, PROCESS_THREAD_COUNT,
        PROCESS_UNIX_FILE_DESCRIPTOR_COUNT, PROCESS_UPTIME, RPC_CLIENT_CALL_DURATION,
        RPC_SERVER_CALL_DURATION,
    },
};

/// Attribute: the [`RequestId`](crate::RequestId), which is the same in the logs of every service.
pub const REQUEST_ID: &str = "telemetry_common.request.id";

/// Attribute of the log record of a request, incoming or outgoing: its duration in seconds.
pub const DURATION: &str = "telemetry_common.duration";

/// Attribute of the log record of an outgoing request: the recorded headers of the response, as a
/// JSON object.
pub const RESPONSE_HEADERS: &str = "telemetry_common.http.response.headers";

/// Attribute of a server span and its access log record: the time from the start of the request to
/// the first bytes of a streamed response body, in seconds.
pub const TIME_TO_FIRST_BYTE: &str = "telemetry_common.time_to_first_byte";

/// Attribute of a database span: the time that the statement waited for a connection of the pool,
/// in seconds. It is absent below 1 ms.
pub const DB_CONNECTION_WAIT: &str = "telemetry_common.db.connection.wait";

/// Attribute of a span: the id of the Sentry event that reports the failure.
pub const SENTRY_EVENT_ID: &str = "sentry.event_id";

/// Attribute of a client span: `true` if the caller cancelled the operation before it ended.
pub const CANCELLED: &str = "telemetry_common.cancelled";

/// Attribute: the name of the metric whose series are capped.
pub const METRIC_NAME: &str = "telemetry_common.metric.name";

/// Attribute: the name of the listener that accepted a connection.
pub const LISTENER: &str = "telemetry_common.listener";

/// Metric: number of accepted connections.
pub const CONNECTIONS_OPENED: &str = "telemetry_common.connection.opened";

/// Metric: number of open connections.
pub const CONNECTIONS_OPEN: &str = "telemetry_common.connection.active";

/// Metric: time between the accept and the close of a connection, in seconds.
pub const CONNECTION_DURATION: &str = "telemetry_common.connection.duration";

/// Metric: bytes of closed connections, by direction.
pub const CONNECTION_IO: &str = "telemetry_common.connection.io";

/// Metric: number of panics, caught or not.
pub const PANICS: &str = "telemetry_common.panics";

/// Metric: number of log events that the rate limit dropped.
pub const LOG_RATE_LIMITED: &str = "telemetry_common.log.rate_limited";

/// Attribute of [`LOG_RATE_LIMITED`]: the output that did not receive the events: `console`, `logs`
/// (the exported log records) or `sentry`.
pub const LOG_OUTPUT: &str = "telemetry_common.log.output";

/// Attribute of a process span: the number of the attempt to process the message, starting at 1.
pub const MESSAGING_ATTEMPT: &str = "telemetry_common.messaging.attempt";

/// Bucket boundaries for durations in seconds, as the conventions recommend for HTTP and messaging.
pub const DURATION_BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Bucket boundaries for durations of connections in seconds. Connections with keep-alive stay open
/// for minutes.
pub const CONNECTION_BOUNDARIES: [f64; 8] = [0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0];

/// Bucket boundaries for sizes in bytes. The conventions recommend none.
pub const SIZE_BOUNDARIES: [f64; 8] = [
    0.0,
    100.0,
    1_000.0,
    10_000.0,
    100_000.0,
    1_000_000.0,
    10_000_000.0,
    100_000_000.0,
];

/// Bucket boundaries for durations of database operations in seconds, as the conventions recommend.
pub const DB_DURATION_BOUNDARIES: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

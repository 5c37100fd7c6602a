//! Names of attributes and metrics: the standard ones re-exported from the semantic conventions,
//! the shared crate's own (prefix `telemetry.`) defined here.
//!
//! A service's own names (prefix `bookapp.` in this project) belong to its domain, not here.

pub use opentelemetry_semantic_conventions::{
    SCHEMA_URL,
    attribute::{
        CLIENT_ADDRESS, DB_COLLECTION_NAME, DB_NAMESPACE, DB_OPERATION_NAME, DB_QUERY_SUMMARY,
        DB_QUERY_TEXT, DB_RESPONSE_RETURNED_ROWS, DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME,
        ERROR_TYPE, EXCEPTION_MESSAGE, HOST_ARCH, HOST_NAME, HTTP_REQUEST_METHOD,
        HTTP_REQUEST_METHOD_ORIGINAL, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE,
        MESSAGING_CONSUMER_GROUP_NAME, MESSAGING_DESTINATION_NAME,
        MESSAGING_DESTINATION_PARTITION_ID, MESSAGING_KAFKA_MESSAGE_KEY, MESSAGING_KAFKA_OFFSET,
        MESSAGING_MESSAGE_BODY_SIZE, MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME,
        MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT,
        NETWORK_PROTOCOL_VERSION, OS_TYPE, PROCESS_COMMAND, PROCESS_PID, SERVER_ADDRESS,
        SERVER_PORT, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, URL_FULL, URL_QUERY,
        URL_SCHEME, URL_TEMPLATE,
    },
    metric::{
        DB_CLIENT_OPERATION_DURATION, HTTP_CLIENT_REQUEST_DURATION, HTTP_SERVER_ACTIVE_REQUESTS,
        HTTP_SERVER_REQUEST_DURATION, MESSAGING_CLIENT_OPERATION_DURATION,
        MESSAGING_PROCESS_DURATION,
    },
};

/// The id under which one request is found in every service's logs.
pub const REQUEST_ID: &str = "telemetry.request.id";

/// Which attempt at a message a process span is, from 1.
pub const MESSAGING_ATTEMPT: &str = "telemetry.messaging.attempt";

/// Bucket boundaries for durations in seconds, as the conventions advise for HTTP and messaging.
pub const DURATION_BOUNDARIES: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Bucket boundaries for database operations in seconds, as the conventions advise.
pub const DB_DURATION_BOUNDARIES: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

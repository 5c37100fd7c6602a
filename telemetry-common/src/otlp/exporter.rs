//! The exporters of spans and log records. Over HTTP, this crate encodes the requests.
//!
//! opentelemetry-otlp sends them: it has the endpoint, the headers, the compression, the retries and the
//! response of the receiver. It is given an empty batch, and [`Body`] replaces the body of its request.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use opentelemetry_http::Bytes;
use opentelemetry_otlp::{LogExporter as OtlpLogExporter, SpanExporter as OtlpSpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter},
    trace::{SpanData, SpanExporter},
};
use ureq::http::{HeaderMap, header::CONTENT_ENCODING};

use super::encode;

/// An OTLP exporter.
#[derive(Debug)]
pub(crate) struct Exporter<E> {
    sender: E,
    /// Replaces the bodies of its requests. `None` over gRPC.
    body: Option<Body>,
    resource: Resource,
}

impl<E> Exporter<E> {
    pub(super) fn new(sender: E, body: Option<Body>) -> Self {
        Self {
            sender,
            body,
            resource: Resource::builder_empty().build(),
        }
    }
}

impl SpanExporter for Exporter<OtlpSpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let Some(body) = &self.body else {
            return self.sender.export(batch).await;
        };
        body.set(encode::spans(&batch, &self.resource));
        drop(batch);
        self.sender.export(Vec::new()).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sender.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        match self.body {
            Some(_) => self.resource = resource.clone(),
            None => self.sender.set_resource(resource),
        }
    }
}

impl LogExporter for Exporter<OtlpLogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let Some(body) = &self.body else {
            return self.sender.export(batch).await;
        };
        body.set(encode::logs(&batch, &self.resource));
        self.sender.export(LogBatch::new(&[])).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sender.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        match self.body {
            Some(_) => self.resource = resource.clone(),
            None => self.sender.set_resource(resource),
        }
    }
}

/// The body of the request that is sent. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Body(Arc<Mutex<Bytes>>);

impl Body {
    fn set(&self, body: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body.into();
    }

    /// Returns the body, compressed if `headers` say so.
    pub(super) fn for_request(&self, headers: &HeaderMap) -> std::io::Result<Bytes> {
        let body = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if headers.get(CONTENT_ENCODING).is_none() {
            return Ok(body);
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&body)?;
        encoder.finish().map(Bytes::from)
    }
}

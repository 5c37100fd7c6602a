//! The requests are compared with those of opentelemetry-otlp, byte by byte.

use std::{
    borrow::Cow,
    collections::HashMap,
    iter::repeat_with,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use opentelemetry::{
    Array, InstrumentationScope, KeyValue, StringValue, Value,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
    trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_proto::{
    tonic::{
        collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
        logs::v1::ScopeLogs,
    },
    transform::{
        common::tonic::ResourceAttributesWithSchema, logs::tonic::group_logs_by_resource_and_scope,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogProcessor, SdkLogRecord, SdkLoggerProvider},
    trace::{SpanData, SpanEvents, SpanLinks},
};
use prost::Message as _;

use super::encode;

/// Random values of each kind, with the sizes at which the encoding of a length changes.
struct Values(Rng);

impl Values {
    fn text(&mut self) -> String {
        let sizes = [0, 1, 30, 120, 127, 128, 129, 16_383, 16_384, 17_000];
        let size = if self.0.u8(..) < 250 {
            sizes[self.0.usize(..7)]
        } else {
            sizes[self.0.usize(..sizes.len())]
        };
        let characters = ['a', 'ü', '€', '🦀', '"'];
        repeat_with(|| characters[self.0.usize(..characters.len())])
            .take(size)
            .collect()
    }

    fn integer(&mut self) -> i64 {
        let size = self.0.u32(..64);
        self.0.i64(..) >> size
    }

    fn count(&mut self) -> u32 {
        self.0.u32(..) >> self.0.u32(0..32) & self.0.u32(..)
    }

    fn time(&mut self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0.u64(..4_000_000_000_000_000_000))
    }

    fn several<T>(&mut self, mut of: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.0.usize(..4);
        (0..count).map(|_| of(self)).collect()
    }

    fn value(&mut self) -> Value {
        match self.0.u8(..8) {
            0 => Value::Bool(self.0.bool()),
            1 => Value::I64(self.integer()),
            2 => Value::F64(self.0.f64() * 1e9),
            3 => Value::Array(Array::Bool(self.several(|it| it.0.bool()))),
            4 => Value::Array(Array::I64(self.several(Self::integer))),
            5 => Value::Array(Array::F64(self.several(|it| it.0.f64()))),
            6 => Value::Array(Array::String(
                self.several(|it| StringValue::from(it.text())),
            )),
            _ => Value::String(self.text().into()),
        }
    }

    fn any_value(&mut self) -> AnyValue {
        match self.0.u8(..8) {
            0 => AnyValue::Boolean(self.0.bool()),
            1 => AnyValue::Int(self.integer()),
            2 => AnyValue::Double(self.0.f64()),
            3 => AnyValue::Bytes(Box::new(self.text().into_bytes())),
            4 => AnyValue::ListAny(Box::new(self.several(|it| it.text().into()))),
            // The order of several entries is random.
            5 => AnyValue::Map(Box::new(HashMap::from([(
                self.text().into(),
                self.integer().into(),
            )]))),
            _ => AnyValue::String(self.text().into()),
        }
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        self.several(|it| KeyValue::new(it.text(), it.value()))
    }

    fn context(&mut self) -> SpanContext {
        let state = self.0.bool().then_some([("vendor", "a:1"), ("other", "b")]);
        SpanContext::new(
            TraceId::from(self.0.u128(..)),
            SpanId::from(self.0.u64(..)),
            TraceFlags::new(self.0.u8(..2)),
            self.0.bool(),
            state.map_or(TraceState::NONE, |state| {
                TraceState::from_key_value(state).unwrap()
            }),
        )
    }

    fn scope(&mut self) -> InstrumentationScope {
        match self.0.u8(..3) {
            0 => InstrumentationScope::builder("bare").build(),
            1 => InstrumentationScope::builder("shop")
                .with_version("1.2")
                .build(),
            _ => InstrumentationScope::builder("shop")
                .with_version("1.2")
                .with_schema_url("https://example.com/schema")
                .with_attributes([KeyValue::new("part", "till")])
                .build(),
        }
    }

    fn resource(&mut self) -> Resource {
        let resource = Resource::builder_empty();
        if self.0.bool() {
            let attributes = self.attributes();
            return resource
                .with_schema_url(attributes, "https://example.com/schema")
                .build();
        }
        resource.with_attributes(self.attributes()).build()
    }

    fn span(&mut self) -> SpanData {
        let kinds = [
            SpanKind::Internal,
            SpanKind::Server,
            SpanKind::Client,
            SpanKind::Producer,
            SpanKind::Consumer,
        ];
        let (mut events, mut links) = (SpanEvents::default(), SpanLinks::default());
        events.events =
            self.several(|it| Event::new(it.text(), it.time(), it.attributes(), it.count()));
        events.dropped_count = self.count();
        links.links = self.several(|it| Link::new(it.context(), it.attributes(), it.count()));
        links.dropped_count = self.count();
        SpanData {
            span_context: self.context(),
            parent_span_id: SpanId::from(self.0.u64(..) * u64::from(self.0.bool())),
            parent_span_is_remote: self.0.bool(),
            span_kind: kinds[self.0.usize(..kinds.len())].clone(),
            name: Cow::Owned(self.text()),
            start_time: self.time(),
            end_time: self.time(),
            attributes: self.attributes(),
            dropped_attributes_count: self.count(),
            events,
            links,
            status: match self.0.u8(..3) {
                0 => Status::Unset,
                1 => Status::Ok,
                _ => Status::error(self.text()),
            },
            instrumentation_scope: self.scope(),
        }
    }

    fn record(&mut self, record: &mut SdkLogRecord) {
        let severities = [
            Severity::Trace,
            Severity::Info,
            Severity::Warn2,
            Severity::Fatal4,
        ];
        let names = ["", "shop.book.sold"];
        record.set_event_name(names[self.0.usize(..2)]);
        record.set_target(["shop::till", "shop::shelf"][self.0.usize(..2)]);
        if self.0.bool() {
            record.set_timestamp(self.time());
            record.set_severity_number(severities[self.0.usize(..4)]);
            record.set_severity_text("INFO");
            record.set_body(self.any_value());
            let context = self.context();
            record.set_trace_context(
                context.trace_id(),
                context.span_id(),
                Some(context.trace_flags()),
            );
        }
        record.set_observed_timestamp(self.time());
        for (key, value) in self.several(|it| (it.text(), it.any_value())) {
            record.add_attribute(key, value);
        }
    }
}

/// Returns how often a test compares: seeds for [`Rng`].
fn seeds() -> impl Iterator<Item = Values> {
    (0..400).map(|seed| Values(Rng::with_seed(seed)))
}

#[test]
fn a_request_with_spans_is_that_of_the_sdk() {
    for mut values in seeds() {
        let resource = values.resource();
        let spans: Vec<_> = repeat_with(|| values.span()).take(5).collect();
        let encoded = encode::spans(&spans, &resource);
        let resource = ResourceAttributesWithSchema::from(&resource);
        let resource_spans = group_spans_by_resource_and_scope(spans, &resource);
        let expected = ExportTraceServiceRequest { resource_spans };
        assert_eq!(
            ExportTraceServiceRequest::decode(&*encoded).unwrap(),
            expected
        );
        assert_eq!(encoded, expected.encode_to_vec());
    }
}

#[test]
fn a_request_with_log_records_is_that_of_the_sdk() {
    let collector = Collector::default();
    let provider = SdkLoggerProvider::builder().with_log_processor(collector.clone());
    let provider = provider.build();
    for mut values in seeds() {
        let resource = values.resource();
        for _ in 0..5 {
            let logger = provider.logger_with_scope(values.scope());
            let mut record = logger.create_log_record();
            values.record(&mut record);
            logger.emit(record);
        }
        let records = std::mem::take(&mut *collector.0.lock().unwrap());
        let references: Vec<_> = records
            .iter()
            .map(|(record, scope)| (record, scope))
            .collect();
        let batch = LogBatch::new(&references);
        let encoded = encode::logs(&batch, &resource);
        let resource = ResourceAttributesWithSchema::from(&resource);
        let mut resource_logs = group_logs_by_resource_and_scope(&batch, &resource);
        // The SDK's order of the scopes is random: here, it is that of the first record of each.
        let decoded = ExportLogsServiceRequest::decode(&*encoded).unwrap();
        let order = |sdk: &ScopeLogs| {
            let mut scopes = decoded.resource_logs[0].scope_logs.iter();
            scopes.position(|own| own.scope == sdk.scope && own.schema_url == sdk.schema_url)
        };
        resource_logs[0].scope_logs.sort_by_key(order);
        let expected = ExportLogsServiceRequest { resource_logs };
        assert_eq!(decoded, expected);
        assert_eq!(encoded, expected.encode_to_vec());
    }
}

/// A processor that keeps the records.
#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<Vec<(SdkLogRecord, InstrumentationScope)>>>);

impl LogProcessor for Collector {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.lock().unwrap().push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

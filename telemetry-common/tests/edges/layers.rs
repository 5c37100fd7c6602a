//! Tests of the layers: the metrics that spans become, and all combinations.

use std::io::{self, Seek};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use telemetry_common::{LogFormat, layers, testing};
use tracing::{error, info, info_span, instrument, subscriber::with_default, trace_span};
use tracing_subscriber::{layer::SubscriberExt, registry};

use crate::helpers::series;

#[instrument(
    name = "record.save_event",
    skip_all,
    fields(metric_name = "db_event", metric_label_table = "events", metric_label_kind = kind),
    err(Display)
)]
fn save(kind: &str, fails: bool) -> Result<(), String> {
    // An error that is handled inside does not count.
    info_span!("inner").in_scope(|| info!(error = "retried", "it goes on"));
    if fails {
        Err("refused".to_owned())
    } else {
        Ok(())
    }
}

/// Returns the attributes of each series that has this `span_name`, as `name=value`.
fn attributes(metric: &str, span_name: &'static str) -> Vec<Vec<String>> {
    let series = series(metric, &KeyValue::new("span_name", span_name));
    let mut texts: Vec<Vec<_>> = series
        .iter()
        .map(|series| {
            series
                .iter()
                .map(|it| format!("{}={}", it.key, it.value))
                .collect()
        })
        .collect();
    for series in &mut texts {
        series.sort();
    }
    texts.sort();
    texts
}

#[test]
fn an_instrumented_function_is_counted_and_timed_by_result() {
    testing::install();
    with_default(registry().with(layers::metrics()), || {
        save("song", false).unwrap();
        save("song", false).unwrap();
        save("song", true).unwrap_err();
    });
    let labels = |result: &str| {
        let labels = ["kind=song", "table=events"].map(str::to_owned);
        let rest = [
            format!("result={result}"),
            "span_name=save_event".to_owned(),
        ];
        let mut labels = [labels, rest].concat();
        labels.sort();
        labels
    };
    let expected = [labels("error"), labels("ok")];
    assert_eq!(attributes("db_event.duration", "save_event"), expected);
    for (result, count) in [("ok", 2.0), ("error", 1.0)] {
        let counted = testing::sum("db_event", &KeyValue::new("result", result));
        assert!(
            (counted - count).abs() < f64::EPSILON,
            "{result}: {counted}"
        );
    }
}

// proves: L25
#[test]
fn without_a_name_the_metric_has_that_of_the_span_at_every_level() {
    testing::install();
    with_default(registry().with(layers::metrics()), || {
        trace_span!("record.hidden").in_scope(|| {});
        info_span!("recorded").in_scope(|| {});
    });
    let expected = [["result=ok", "span_name=hidden"]
        .map(str::to_owned)
        .to_vec()];
    assert_eq!(attributes("hidden.duration", "hidden"), expected);
    assert!(attributes("recorded.duration", "recorded").is_empty());
}

// proves: L10
#[tokio::test]
async fn a_span_that_follows_from_another_links_to_it() {
    let ((), spans) = testing::spans_of(async {
        let first = info_span!("first");
        let second = info_span!(parent: None, "second");
        second.follows_from(&first);
    })
    .await;
    let (first, second) = (spans.named("first"), spans.named("second"));
    let link = second.links.iter().next().expect("a link");
    assert_eq!(link.span_context, first.span_context);
}

#[test]
fn labels_of_outer_spans_count_with_the_context_layer_alone() {
    testing::install();
    let request = || {
        let span = info_span!(
            "request",
            metric_label_tenant = 7,
            metric_label_table = "outer"
        );
        span.in_scope(|| info_span!("record.inner", metric_label_table = "own").in_scope(|| {}));
    };
    with_default(registry().with(layers::metrics()), request);
    let subscriber = registry().with(layers::context()).with(layers::metrics());
    with_default(subscriber, request);
    let own = ["result=ok", "span_name=inner", "table=own"].map(str::to_owned);
    let inherited = [&own[..], &["tenant=7".to_owned()]].concat();
    let expected = [own.to_vec(), inherited];
    assert_eq!(attributes("inner.duration", "inner"), expected);
}

#[test]
fn each_layer_works_alone_and_with_all_others() {
    testing::install();
    for combination in 0..16_u8 {
        let [has_context, has_lines, has_metrics, has_traces] =
            [1, 2, 4, 8].map(|bit| combination & bit != 0);
        let what = format!(
            "context {has_context}, lines {has_lines}, metrics {has_metrics}, traces {has_traces}"
        );
        let spans = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(spans.clone())
            .build();
        let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let mut output = tempfile::tempfile().unwrap();
        let (lines, guard) = layers::lines(LogFormat::Logfmt, output.try_clone().unwrap()).unwrap();
        let subscriber = registry()
            .with(has_traces.then_some(traces))
            .with(has_context.then(layers::context))
            .with(has_lines.then_some(lines))
            .with(has_metrics.then(layers::metrics));
        let metric = format!("combination_{combination}");
        with_default(subscriber, || {
            let request = info_span!("request", metric_label_tenant = 7, shelf = "fiction");
            let _request = request.entered();
            let save = info_span!("record.save", metric_name = &*metric);
            save.in_scope(|| error!(error = "refused", "it failed"));
        });
        drop(guard);

        let spans = spans.get_finished_spans().unwrap();
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        let expected: &[&str] = if has_traces {
            &["record.save", "request"]
        } else {
            &[]
        };
        assert_eq!(names, expected, "{what}");

        output.rewind().unwrap();
        let written = io::read_to_string(output).unwrap();
        let line = written.lines().find(|line| line.contains("it failed"));
        assert_eq!(line.is_some(), has_lines, "{what}");
        let of_spans = written.matches("span_event=").count();
        assert_eq!(of_spans, if has_lines { 4 } else { 0 }, "{what}");
        if let Some(line) = line {
            assert_eq!(
                line.contains("shelf=fiction"),
                has_context,
                "{what}: {line}"
            );
            assert_eq!(line.contains("trace_id="), has_traces, "{what}: {line}");
        }

        let labels = attributes(&format!("{metric}.duration"), "save");
        let mut expected = vec!["result=error", "span_name=save"];
        expected.extend(has_context.then_some("tenant=7"));
        let expected = if has_metrics { vec![expected] } else { vec![] };
        assert_eq!(labels, expected, "{what}");
    }
}

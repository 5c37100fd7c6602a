//! Tests of the lines, in all formats.

use std::{
    fmt::Debug,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
};

use opentelemetry::trace::{TraceContextExt, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::Value;
use tracing::{debug_span, error, field::Empty, info, info_span, subscriber::with_default, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{layer::SubscriberExt, registry};

use super::{writer::tests::Paper, *};
use crate::layers;

/// Returns an output, and a function that returns what was written to it.
fn paper() -> (Paper, impl Fn() -> String) {
    let (sender, written) = channel();
    let read = move || {
        let bytes: Vec<u8> = written.try_iter().flatten().collect();
        String::from_utf8(bytes).unwrap()
    };
    (Paper(sender), read)
}

/// Returns the lines that are printed while `work` runs, with the traces and context layers before.
fn printed(format: LogFormat, has_spans: bool, work: impl FnOnce()) -> Vec<String> {
    let (output, written) = paper();
    let writer = ConsoleWriter::start(output).unwrap();
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let spans = registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    let console = ConsoleLayer {
        format,
        is_coloured: false,
        has_span_fields: true,
        has_spans,
        writer: writer.clone(),
    };
    with_default(spans.with(layers::context()).with(console), work);
    writer.flush(Duration::from_mins(1));
    written().lines().map(str::to_owned).collect()
}

/// Returns the only line that is printed about events.
fn line(format: LogFormat, work: impl FnOnce()) -> String {
    let lines = printed(format, false, work);
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    line.clone()
}

const FORMATS: [LogFormat; 3] = [LogFormat::Text, LogFormat::Json, LogFormat::Logfmt];

/// Whether a line has a field with this string.
fn has(format: LogFormat, line: &str, name: &str, value: &str) -> bool {
    match format {
        LogFormat::Json => {
            let line: Value = serde_json::from_str(line).unwrap();
            line[name] == value
        }
        LogFormat::Text => line.contains(&format!(" {name}={value:?}")),
        LogFormat::Logfmt => format!("{line} ").contains(&format!(" {name}={value} ")),
    }
}

// proves: L1 L5
#[test]
fn an_event_has_the_fields_of_the_spans_around_it_and_its_own_replace_them() {
    for format in FORMATS {
        let line = line(format, || {
            let request = info_span!("request", http.route = "/books", user = "reader");
            let step = request.in_scope(|| info_span!("step", shelf = Empty, late = Empty));
            step.record("shelf", "fiction");
            let plain = step.in_scope(|| info_span!("plain"));
            plain.in_scope(|| info!(user = "writer", "sorted"));
        });
        let expected = [
            ("http.route", "/books"),
            ("shelf", "fiction"),
            ("user", "writer"),
        ];
        for (name, value) in expected {
            assert!(has(format, &line, name, value), "{name}: {line}");
        }
        assert!(!line.contains("reader") && !line.contains("late"), "{line}");
    }
}

#[test]
fn events_do_not_inherit_what_is_about_the_span_itself() {
    for format in FORMATS {
        let line = line(format, || {
            let span = info_span!(
                "work",
                otel.kind = "client",
                metric_label_kind = "secondary",
                subject = "outer",
                category = "db",
                password = "hunter2",
                error = Empty
            );
            span.in_scope(|| info!(subject = "songs", authorization = "Bearer xyz", "sent"));
        });
        for absent in ["client", "secondary", "outer", "hunter2", "xyz"] {
            assert!(!line.contains(absent), "{line}");
        }
        assert!(has(format, &line, "subject", "songs"), "{line}");
        for secret in ["password", "authorization"] {
            assert!(has(format, &line, secret, "REDACTED"), "{line}");
        }
    }
}

#[test]
fn without_the_context_layer_fields_of_spans_are_neither_printed_nor_formatted() {
    struct Unprintable;

    impl Debug for Unprintable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("formatted");
        }
    }

    let (output, written) = paper();
    let (lines, guard) = layers::lines(LogFormat::Json, output).unwrap();
    with_default(registry().with(lines), || {
        let span = info_span!("work", field = ?Unprintable, late = Empty);
        span.record("late", tracing::field::debug(Unprintable));
        span.in_scope(|| info!("working"));
    });
    drop(guard);
    let line: Value = serde_json::from_str(&written()).unwrap();
    assert_eq!(line["message"], "working");
}

// proves: L13 L16 L17
#[test]
fn an_event_in_logfmt_has_message_source_time_and_span() {
    let inside = line(LogFormat::Logfmt, || {
        let span = info_span!("work", shelf = "fiction");
        span.in_scope(|| warn!(count = 3, ratio = 0.5, done = true, "two words"));
    });
    let start = r#"level=WARN msg="two words" count=3 ratio=0.5 done=true shelf=fiction target="#;
    assert!(inside.starts_with(start), "{inside}");
    let location = format!(" location={}:", file!());
    for name in [
        &*location,
        " timestamp=20",
        " span=",
        " trace_id=",
        " span_id=",
    ] {
        assert!(inside.contains(name), "{name}: {inside}");
    }
    let outside = line(LogFormat::Logfmt, || info!("settings"));
    assert!(
        outside.starts_with("level=INFO msg=settings target="),
        "{outside}"
    );
    for name in ["span", "trace_id"] {
        assert!(!outside.contains(name), "{outside}");
    }
}

// proves: L2 L7 L8 L11 L12 L14
#[test]
fn a_span_has_a_line_at_its_start_and_one_at_its_end() {
    let started = Instant::now();
    let lines = printed(LogFormat::Logfmt, true, || {
        let request = info_span!("HTTP request", http.route = "/songs", body = "secret");
        let child = request.in_scope(|| debug_span!("child", step = 1));
        child.in_scope(|| {});
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.in_scope(|| {});
        drop(child);
        let _never_entered = info_span!("never");
    });
    let [request, child, child_end, request_end] = &lines[..] else {
        panic!("{lines:#?}")
    };
    let id = |line: &str, name: &str| -> u64 {
        let value = line.split(&format!(" {name}=")).nth(1).expect(name);
        value.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(
        request.starts_with(r#"level=INFO span_name="HTTP request" span="#)
            && request.contains(" span_event=new_span http.route=/songs target="),
        "from INFO on, only listed fields: {request}"
    );
    assert!(!request.contains("parent_span"), "{request}");
    assert!(
        child.starts_with("level=DEBUG span_name=child span=")
            && child.contains(" span_event=new_span step=1 http.route=/songs body=secret target="),
        "below INFO, all fields: {child}"
    );
    assert_eq!(id(child, "parent_span"), id(request, "span"));
    assert!(
        child_end.contains(" span_event=close_span latency_ms="),
        "{child_end}"
    );
    assert!(
        id(child_end, "latency_ms") >= 2,
        "from the first enter: {child_end}"
    );
    let longest = u64::try_from(started.elapsed().as_millis()).unwrap();
    assert!(id(request_end, "latency_ms") <= longest, "{request_end}");
    for pair in [[request, request_end], [child, child_end]] {
        let [start, end] = pair.map(|line| line.split(" trace_id=").nth(1).unwrap());
        assert_eq!(start, end, "the ids of the span");
        assert_eq!(id(pair[0], "span"), id(pair[1], "span"));
    }
}

#[test]
fn a_span_that_two_threads_enter_at_once_starts_once() {
    let lines = printed(LogFormat::Logfmt, true, || {
        let spans: Vec<_> = (0..2_000).map(|_| info_span!("shared")).collect();
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let arrived = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        for (number, span) in spans.iter().enumerate() {
                            arrived.fetch_add(1, Ordering::SeqCst);
                            // Not a barrier, which would wake the threads one after the other.
                            let mut polls = 0;
                            while arrived.load(Ordering::SeqCst) < 2 * (number + 1) {
                                polls += 1;
                                if polls > 10_000 {
                                    std::thread::yield_now(); // the other thread has no core
                                }
                            }
                            span.in_scope(|| {});
                        }
                    });
                });
            }
        });
    });
    let count = |event: &str| lines.iter().filter(|line| line.contains(event)).count();
    assert_eq!((count("new_span"), count("close_span")), (2_000, 2_000));
}

#[test]
fn lines_of_spans_in_the_other_formats() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = printed(format, true, || {
            info_span!("work", http.route = "/songs").in_scope(|| {});
        });
        let [start, end] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert!(has(format, start, "http.route", "/songs"), "{start}");
        if format == LogFormat::Text {
            assert!(start.contains(": work started http.route="), "{start}");
            let (_, after) = end.split_once(": work ended after ").unwrap();
            let (latency, _) = after.split_once(" ms http.route=").unwrap();
            assert!(latency.parse::<u64>().is_ok(), "{end}");
        } else {
            let end: Value = serde_json::from_str(end).unwrap();
            assert_eq!(end["span_name"], "work");
            assert_eq!(end["span_event"], "close_span");
            assert!(end["latency_ms"].is_u64());
            assert!(has(format, start, "span_event", "new_span"), "{start}");
        }
    }
}

#[test]
fn a_field_with_a_name_that_the_line_needs_is_kept_under_another() {
    for format in [LogFormat::Json, LogFormat::Logfmt] {
        let line = line(format, || {
            info!(level = "expert", target = "moon", "trained");
        });
        assert!(has(format, &line, "fields.level", "expert"), "{line}");
        assert!(has(format, &line, "fields.target", "moon"), "{line}");
        assert!(line.contains("INFO"), "{line}");
    }
}

#[test]
fn control_characters_are_escaped() {
    for format in FORMATS {
        let line = line(format, || {
            info!(title = %"\u{1b}[2J", "forged\nERROR: not a record");
        });
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert!(line.contains(r"forged\nERROR"), "{line:?}");
    }
}

#[test]
fn an_event_with_an_explicit_parent_has_the_ids_of_that_span() {
    let mut id = String::new();
    let line = line(LogFormat::Json, || {
        store_dispatch();
        let parent = info_span!(parent: None, "parent");
        let context = parent.context();
        id = context.span().span_context().span_id().to_string();
        let _current = info_span!("current").entered();
        error!(parent: &parent, "it failed");
    });
    assert!(has(LogFormat::Json, &line, "span_id", &id), "{line}");
}

#[test]
fn a_record_of_the_log_crate_has_its_own_target_and_no_event_name() {
    for format in FORMATS {
        let line = line(format, || {
            let record = log::Record::builder()
                .target("other_crate")
                .level(log::Level::Warn)
                .args(format_args!("from the log crate"))
                .build();
            tracing_log::format_trace(&record).unwrap();
        });
        assert!(line.contains("other_crate"), "{line}");
        assert!(
            !line.contains("log event") && !line.contains("log.target"),
            "{line}"
        );
    }
}

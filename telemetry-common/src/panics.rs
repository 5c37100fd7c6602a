//! A panic is a log record and a count, in the span it happens in, whoever catches it.

use std::{
    any::Any,
    backtrace::Backtrace,
    panic::{Location, PanicHookInfo, set_hook, take_hook},
};

use opentelemetry::metrics::Counter;
use tracing::{Level, enabled, error};

use crate::{scope, semconv};

/// Takes the place of the hook that prints; call it once, after the metrics are set up.
pub(crate) fn observe() {
    let (count, print) = (counter(), take_hook());
    set_hook(Box::new(move |panic| {
        count.add(1, &[]);
        if enabled!(Level::ERROR) {
            log(panic);
        } else {
            print(panic);
        }
    }));
}

/// As [`observe`], and the hook that was there goes on printing: a test's own panics are seen.
#[cfg(feature = "testing")]
pub(crate) fn observe_and_print() {
    let (count, print) = (counter(), take_hook());
    set_hook(Box::new(move |panic| {
        count.add(1, &[]);
        log(panic);
        print(panic);
    }));
}

fn log(panic: &PanicHookInfo<'_>) {
    let text = payload_text(panic.payload());
    let location = panic.location();
    error!(
        name: "exception",
        {
            { semconv::EXCEPTION_TYPE } = "panic",
            { semconv::EXCEPTION_MESSAGE } = text,
            { semconv::EXCEPTION_STACKTRACE } = %Backtrace::force_capture(),
            { semconv::CODE_FILE_PATH } = location.map(Location::file),
            { semconv::CODE_LINE_NUMBER } = location.map(Location::line),
        },
        "panicked at {}",
        location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
    );
}

fn payload_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

fn counter() -> Counter<u64> {
    let panics = scope::meter()
        .u64_counter(semconv::PANICS)
        .with_unit("{panic}")
        .with_description("Panics, caught or not")
        .build();
    panics.add(0, &[]);
    panics
}

//! Logs and counts every panic, caught or not, in the span in which it happens.
//!
//! Convention: <https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/>.

use std::{
    any::Any,
    backtrace::Backtrace,
    panic::{Location, PanicHookInfo, set_hook, take_hook},
};

use opentelemetry::metrics::Counter;
use tracing::{Level, enabled, error};

use crate::{scope, semconv};

/// Replaces the default panic hook by one that logs and counts panics. Panics are printed only if
/// the level ERROR is disabled. Call it once, after the meter provider is set.
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

/// As [`observe`], but also prints every panic, so that the panic of a failed test is visible.
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
    let message = payload_message(panic.payload());
    let location = panic.location();
    error!(
        name: "exception",
        {
            { semconv::EXCEPTION_TYPE } = "panic",
            { semconv::EXCEPTION_MESSAGE } = message,
            { semconv::EXCEPTION_STACKTRACE } = %Backtrace::force_capture(),
            { semconv::CODE_FILE_PATH } = location.map(Location::file),
            { semconv::CODE_LINE_NUMBER } = location.map(Location::line),
        },
        "panicked at {}",
        location.map_or_else(|| "an unknown location".to_owned(), ToString::to_string),
    );
}

fn payload_message(payload: &(dyn Any + Send)) -> &str {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    message
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("the panic payload is not a string")
}

fn counter() -> Counter<u64> {
    let panics = scope::meter()
        .u64_counter(semconv::PANICS)
        .with_unit("{panic}")
        .with_description("Number of panics, caught or not")
        .build();
    panics.add(0, &[]);
    panics
}

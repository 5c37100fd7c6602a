//! Metrics of the process: CPU, memory, threads, file descriptors, disk I/O and the tokio runtime.
//!
//! The crate opentelemetry-instrumentation-process records most of them as gauges, where the
//! conventions require counters. A backend would aggregate those incorrectly.
//!
//! Conventions: <https://opentelemetry.io/docs/specs/semconv/system/process-metrics/>.

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Instant;

    use opentelemetry::KeyValue;
    use procfs::{
        ProcResult, WithCurrentSystemInfo,
        process::{Process, Stat},
        ticks_per_second,
    };

    use crate::{scope, semconv};

    /// Creates the instruments. They read `/proc/self` at each export. A value that cannot be read
    /// is not reported.
    pub(super) fn observe() {
        let meter = scope::meter();
        meter
            .f64_observable_counter(semconv::PROCESS_CPU_TIME)
            .with_unit("s")
            .with_description("CPU time used by the process")
            .with_callback(|observer| {
                if let Ok(Stat { utime, stime, .. }) = stat() {
                    for (mode, ticks) in [("user", utime), ("system", stime)] {
                        observer.observe(seconds(ticks), &[KeyValue::new(semconv::CPU_MODE, mode)]);
                    }
                }
            })
            .build();
        meter
            .u64_observable_counter(semconv::PROCESS_DISK_IO)
            .with_unit("By")
            .with_description("Bytes read from and written to disk")
            .with_callback(|observer| {
                if let Ok(io) = Process::myself().and_then(|me| me.io()) {
                    for (direction, bytes) in [("read", io.read_bytes), ("write", io.write_bytes)] {
                        let direction = KeyValue::new(semconv::DISK_IO_DIRECTION, direction);
                        observer.observe(bytes, &[direction]);
                    }
                }
            })
            .build();
        meter
            .u64_observable_counter(semconv::PROCESS_CONTEXT_SWITCHES)
            .with_unit("{context_switch}")
            .with_description("Number of context switches of the process")
            .with_callback(|observer| {
                if let Ok(status) = Process::myself().and_then(|me| me.status()) {
                    for (kind, switches) in [
                        ("voluntary", status.voluntary_ctxt_switches),
                        ("involuntary", status.nonvoluntary_ctxt_switches),
                    ] {
                        let kind = KeyValue::new(semconv::PROCESS_CONTEXT_SWITCH_TYPE, kind);
                        observer.observe(switches.unwrap_or_default(), &[kind]);
                    }
                }
            })
            .build();
        meter
            .u64_observable_counter(semconv::PROCESS_PAGING_FAULTS)
            .with_unit("{fault}")
            .with_description("Number of page faults of the process")
            .with_callback(|observer| {
                if let Ok(Stat { minflt, majflt, .. }) = stat() {
                    for (kind, faults) in [("minor", minflt), ("major", majflt)] {
                        let kind = KeyValue::new(semconv::SYSTEM_PAGING_FAULT_TYPE, kind);
                        observer.observe(faults, &[kind]);
                    }
                }
            })
            .build();
        let amount = |name, unit, description, read: fn() -> ProcResult<i64>| {
            meter
                .i64_observable_up_down_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |observer| {
                    if let Ok(amount) = read() {
                        observer.observe(amount, &[]);
                    }
                })
                .build();
        };
        amount(
            semconv::PROCESS_MEMORY_USAGE,
            "By",
            "Physical memory in use (RSS)",
            || Ok(stat()?.rss_bytes().get().cast_signed()),
        );
        amount(
            semconv::PROCESS_MEMORY_VIRTUAL,
            "By",
            "Virtual memory in use",
            || Ok(stat()?.vsize.cast_signed()),
        );
        amount(
            semconv::PROCESS_THREAD_COUNT,
            "{thread}",
            "Number of threads",
            || Ok(stat()?.num_threads),
        );
        amount(
            semconv::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT,
            "{file_descriptor}",
            "Number of open file descriptors",
            || Ok(Process::myself()?.fd_count()?.cast_signed() as i64),
        );
        let started = Instant::now();
        meter
            .f64_observable_gauge(semconv::PROCESS_UPTIME)
            .with_unit("s")
            .with_description("Time since telemetry was started")
            .with_callback(move |observer| observer.observe(started.elapsed().as_secs_f64(), &[]))
            .build();
    }

    fn stat() -> ProcResult<Stat> {
        Process::myself()?.stat()
    }

    #[expect(clippy::cast_precision_loss, reason = "2^52 ticks are a million years")]
    fn seconds(ticks: u64) -> f64 {
        ticks as f64 / ticks_per_second() as f64
    }
}

/// Creates the instruments of the process, on Linux only, and of the current tokio runtime, if
/// there is one.
pub(crate) fn observe() {
    #[cfg(target_os = "linux")]
    linux::observe();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        opentelemetry_instrumentation_tokio::observe_runtime(&runtime);
    }
}

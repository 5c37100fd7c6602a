//! What the process costs: CPU, memory, threads, files, disk, and tokio's workers.
//!
//! opentelemetry-instrumentation-process measures most of this with other instruments than the
//! conventions name, gauges for counters; a backend adds those up wrongly.
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

    /// Reads `/proc/self` whenever metrics are exported; what cannot be read is not told.
    pub(super) fn observe() {
        let meter = scope::meter();
        meter
            .f64_observable_counter(semconv::PROCESS_CPU_TIME)
            .with_unit("s")
            .with_description("CPU time spent")
            .with_callback(|seen| {
                if let Ok(Stat { utime, stime, .. }) = stat() {
                    for (mode, ticks) in [("user", utime), ("system", stime)] {
                        seen.observe(seconds(ticks), &[KeyValue::new(semconv::CPU_MODE, mode)]);
                    }
                }
            })
            .build();
        meter
            .u64_observable_counter(semconv::PROCESS_DISK_IO)
            .with_unit("By")
            .with_description("Bytes read from and written to disks")
            .with_callback(|seen| {
                if let Ok(io) = Process::myself().and_then(|me| me.io()) {
                    for (direction, bytes) in [("read", io.read_bytes), ("write", io.write_bytes)] {
                        let direction = KeyValue::new(semconv::DISK_IO_DIRECTION, direction);
                        seen.observe(bytes, &[direction]);
                    }
                }
            })
            .build();
        meter
            .u64_observable_counter(semconv::PROCESS_CONTEXT_SWITCHES)
            .with_unit("{context_switch}")
            .with_description("Switches of context")
            .with_callback(|seen| {
                if let Ok(status) = Process::myself().and_then(|me| me.status()) {
                    for (kind, switches) in [
                        ("voluntary", status.voluntary_ctxt_switches),
                        ("involuntary", status.nonvoluntary_ctxt_switches),
                    ] {
                        let kind = KeyValue::new(semconv::PROCESS_CONTEXT_SWITCH_TYPE, kind);
                        seen.observe(switches.unwrap_or_default(), &[kind]);
                    }
                }
            })
            .build();
        meter
            .u64_observable_counter(semconv::PROCESS_PAGING_FAULTS)
            .with_unit("{fault}")
            .with_description("Page faults")
            .with_callback(|seen| {
                if let Ok(Stat { minflt, majflt, .. }) = stat() {
                    for (kind, faults) in [("minor", minflt), ("major", majflt)] {
                        let kind = KeyValue::new(semconv::SYSTEM_PAGING_FAULT_TYPE, kind);
                        seen.observe(faults, &[kind]);
                    }
                }
            })
            .build();
        let amount = |name, unit, description, read: fn() -> ProcResult<i64>| {
            meter
                .i64_observable_up_down_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |seen| {
                    if let Ok(amount) = read() {
                        seen.observe(amount, &[]);
                    }
                })
                .build();
        };
        amount(
            semconv::PROCESS_MEMORY_USAGE,
            "By",
            "Physical memory in use",
            || Ok(stat()?.rss_bytes().get().cast_signed()),
        );
        amount(
            semconv::PROCESS_MEMORY_VIRTUAL,
            "By",
            "Virtual memory in use",
            || Ok(stat()?.vsize.cast_signed()),
        );
        amount(semconv::PROCESS_THREAD_COUNT, "{thread}", "Threads", || {
            Ok(stat()?.num_threads)
        });
        amount(
            semconv::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT,
            "{file_descriptor}",
            "Open files and sockets",
            || Ok(Process::myself()?.fd_count()?.cast_signed() as i64),
        );
        let started = Instant::now();
        meter
            .f64_observable_gauge(semconv::PROCESS_UPTIME)
            .with_unit("s")
            .with_description("How long the process has run")
            .with_callback(move |seen| seen.observe(started.elapsed().as_secs_f64(), &[]))
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

pub(crate) fn observe() {
    #[cfg(target_os = "linux")]
    linux::observe();
    opentelemetry_instrumentation_tokio::observe_current_runtime();
}

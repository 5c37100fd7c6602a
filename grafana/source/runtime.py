"""Dashboard "Runtime": processes of the services, their Tokio runtime, and the host."""

from panels import board, fill, rate, row, series


def dashboard():
    return fill(
        board(
            "runtime", "Runtime", "Processes of both services, their Tokio runtime, the host."
        ),
        row(
            "Processes",
            series(
                "CPU usage",
                "short",
                (
                    rate("process_cpu_time_seconds_total", "service_name", "cpu_mode"),
                    "{{service_name}} {{cpu_mode}}",
                ),
                about="Used CPU cores; 1 is one fully used core. At the number of cores, the"
                " process is CPU-bound.",
                stacked=True,
            ),
            series(
                "Memory (RSS)",
                "bytes",
                ("sum by (service_name) (process_memory_usage_bytes)", "{{service_name}}"),
                about="Resident memory. A steady rise without a plateau is a leak.",
            ),
            series(
                "Disk I/O",
                "Bps",
                (
                    rate("process_disk_io_bytes_total", "service_name", "disk_io_direction"),
                    "{{service_name}} {{disk_io_direction}}",
                ),
                about="Bytes per second that the processes read from and write to disk. The"
                " services store no data on disk, so a high value is unexpected.",
            ),
            series(
                "Threads and open file descriptors",
                "short",
                ("sum by (service_name) (process_thread_count)", "{{service_name}} threads"),
                (
                    "sum by (service_name) (process_unix_file_descriptor_count)",
                    "{{service_name}} file descriptors",
                ),
                about="Threads, and open files and sockets. File descriptors that only grow are a"
                " leak.",
            ),
            series(
                "Context switches",
                "short",
                (
                    rate(
                        "process_context_switches_total",
                        "service_name",
                        "process_context_switch_type",
                    ),
                    "{{service_name}} {{process_context_switch_type}}",
                ),
                about="Context switches per second. Many involuntary ones mean that there are too"
                " few cores.",
            ),
            series(
                "Uptime",
                "s",
                ("max by (service_name) (process_uptime_seconds)", "{{service_name}}"),
                about="Time since the process started. A drop to 0 is a restart.",
            ),
        ),
        row(
            "Tokio",
            series(
                "Tokio: alive tasks",
                "short",
                ("sum by (service_name) (tokio_alive_tasks)", "{{service_name}}"),
                about="Spawned tasks that have not ended. A number that only grows is a leak.",
            ),
            series(
                "Tokio: busy ratio",
                "percentunit",
                (
                    "sum by (service_name) (rate(tokio_worker_busy_duration_milliseconds_total"
                    "[$__rate_interval])) / 1000 / sum by (service_name) (tokio_workers)",
                    "{{service_name}}",
                ),
                about="Share of time that the worker threads run tasks. Near 100 %, tasks wait for"
                " a thread.",
            ),
            series(
                "Tokio: queue depth",
                "short",
                ("sum by (service_name) (tokio_global_queue_depth)", "{{service_name}}"),
                about="Tasks that wait in the global queue. A value that stays above 0 means that"
                " the workers are overloaded or blocked.",
            ),
        ),
        row(
            "Panics and injected faults",
            series(
                "Panics",
                "short",
                (
                    "sum by (service_name) (increase(telemetry_common_panics_total[$__rate_interval]))",
                    "{{service_name}}",
                ),
                about="Caught and uncaught panics since the previous point. Without injected"
                " faults, any value above 0 is a bug.",
                width=12,
            ),
            series(
                "Injected faults",
                "short",
                (
                    "sum by (service_name, bookapp_fault_type)"
                    " (increase(bookapp_faults_injected_total[$__rate_interval]))",
                    "{{service_name}} {{bookapp_fault_type}}",
                ),
                about="Faults that the rules of /error-injection injected since the previous"
                " point. Without rules, it is 0.",
                width=12,
            ),
        ),
        row(
            "Host",
            series(
                "Host CPU usage",
                "percentunit",
                ("avg by (state) (system_cpu_utilization_ratio)", "{{state}}"),
                about="Share of the CPU time of all cores, by state. Without idle time, the host"
                " is overloaded.",
                stacked=True,
            ),
            series(
                "Host memory",
                "bytes",
                ("sum by (state) (system_memory_usage_bytes)", "{{state}}"),
                about="Memory of the collector's host by state. Without free or cached memory, the"
                " kernel may kill processes.",
                stacked=True,
            ),
            series(
                "Host network",
                "Bps",
                (rate("system_network_io_bytes_total", "direction"), "{{direction}}"),
                about="Bytes per second on all interfaces, including loopback. A plateau under"
                " rising load means that the network is saturated.",
            ),
        ),
    )

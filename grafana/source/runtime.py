"""Processes, their async runtime, and the host."""

from panels import board, fill, rate, row, series


def dashboard():
    return fill(
        board("runtime", "Runtime", "Both services' processes, their runtime, and the host."),
        row(
            "Processes",
            series(
                "Processor",
                "short",
                (
                    rate("process_cpu_time_seconds_total", "service_name", "cpu_mode"),
                    "{{service_name}} {{cpu_mode}}",
                ),
                about="1 is one core, busy all the time.",
                stacked=True,
            ),
            series(
                "Memory",
                "bytes",
                ("sum by (service_name) (process_memory_usage_bytes)", "{{service_name}}"),
                about="Resident.",
            ),
            series(
                "Disk",
                "Bps",
                (
                    rate("process_disk_io_bytes_total", "service_name", "disk_io_direction"),
                    "{{service_name}} {{disk_io_direction}}",
                ),
                about="What the processes themselves read and write.",
            ),
            series(
                "Threads and open files",
                "short",
                ("sum by (service_name) (process_thread_count)", "{{service_name}} threads"),
                (
                    "sum by (service_name) (process_unix_file_descriptor_count)",
                    "{{service_name}} files",
                ),
                about="Files that only grow are a leak.",
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
                about="A second; involuntary ones say that cores are short.",
            ),
            series(
                "Up for",
                "s",
                ("max by (service_name) (process_uptime_seconds)", "{{service_name}}"),
                about="It falls to 0 at a restart.",
            ),
        ),
        row(
            "tokio",
            series(
                "Tasks alive",
                "short",
                ("sum by (service_name) (tokio_alive_tasks)", "{{service_name}}"),
                about="Tasks that only grow are a leak.",
            ),
            series(
                "Workers busy",
                "percentunit",
                (
                    "sum by (service_name) (rate(tokio_worker_busy_duration_milliseconds_total"
                    "[$__rate_interval])) / 1000 / sum by (service_name) (tokio_workers)",
                    "{{service_name}}",
                ),
                about="Of the time they have.",
            ),
            series(
                "Tasks that wait for a worker",
                "short",
                ("sum by (service_name) (tokio_global_queue_depth)", "{{service_name}}"),
                about="In the global queue.",
            ),
        ),
        row(
            "Failures of the process",
            series(
                "Panics",
                "short",
                (
                    "sum by (service_name) (increase(telemetry_panics_total[$__rate_interval]))",
                    "{{service_name}}",
                ),
                about="Caught or not.",
                width=12,
            ),
            series(
                "Failures on purpose",
                "short",
                (
                    "sum by (service_name, bookapp_fault_type)"
                    " (increase(bookapp_faults_injected_total[$__rate_interval]))",
                    "{{service_name}} {{bookapp_fault_type}}",
                ),
                about="By the rules under /error-injection.",
                width=12,
            ),
        ),
        row(
            "Host",
            series(
                "Processor",
                "percentunit",
                ("avg by (state) (system_cpu_utilization_ratio)", "{{state}}"),
                about="Of all cores.",
                stacked=True,
            ),
            series(
                "Memory",
                "bytes",
                ("sum by (state) (system_memory_usage_bytes)", "{{state}}"),
                about="Of the host the collector runs on.",
                stacked=True,
            ),
            series(
                "Network",
                "Bps",
                (rate("system_network_io_bytes_total", "direction"), "{{direction}}"),
                about="All interfaces, loopback too.",
            ),
        ),
    )

//! The telemetry settings that the benchmark compares.

/// A telemetry setting.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) env: &'static [(&'static str, &'static str)],
    pub(super) collector: bool,
    /// Whether only `GET /books/1` is measured.
    pub(super) only_get: bool,
}

const fn setting(name: &'static str, env: &'static [(&'static str, &'static str)]) -> Setting {
    Setting {
        name,
        env,
        collector: true,
        only_get: false,
    }
}

/// The telemetry settings, cheapest first.
pub(super) static SETTINGS: [Setting; 6] = [
    setting("off", &[("OTEL_SDK_DISABLED", "true")]),
    setting(
        "metrics only",
        &[
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ],
    ),
    setting(
        "1 %",
        &[
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
        ],
    ),
    setting("100 %", &[]),
    Setting {
        collector: false,
        ..setting("100 %, collector down", &[])
    },
    Setting {
        only_get: true,
        ..setting("100 %, console at info", &[("RUST_LOG", "info")])
    },
];

/// No telemetry.
pub(super) static OFF: &Setting = &SETTINGS[0];
/// 1 % of the traces are sampled.
pub(super) static PERCENT: &Setting = &SETTINGS[2];
/// The same, and the access log is thinned with the traces.
pub(super) static THINNED: &Setting = &setting(
    "1 %, thinned access log",
    &[
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
        ("ACCESS_LOG_SAMPLED_BELOW", "1h"),
    ],
);
/// All traces are sampled.
pub(super) static FULL: &Setting = &SETTINGS[3];

/// The settings that show the price of the fields of spans on console lines: each without and with
/// them.
pub(super) static SPAN_FIELDS: [[Setting; 2]; 2] = [
    [
        setting(
            "100 %, console at warn, no span fields",
            &[("LOG_SPAN_FIELDS", "none")],
        ),
        setting("100 %, console at warn, span fields", &[]),
    ],
    [
        setting(
            "100 %, console at info, no span fields",
            &[("RUST_LOG", "info"), ("LOG_SPAN_FIELDS", "none")],
        ),
        setting(
            "100 %, console at info, span fields",
            &[("RUST_LOG", "info")],
        ),
    ],
];

//! The settings of telemetry that are compared.

/// One setting of telemetry.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) env: &'static [(&'static str, &'static str)],
    pub(super) collector: bool,
    /// Whether it is measured for books alone.
    pub(super) books_alone: bool,
}

const fn setting(name: &'static str, env: &'static [(&'static str, &'static str)]) -> Setting {
    Setting {
        name,
        env,
        collector: true,
        books_alone: false,
    }
}

/// The settings of telemetry, cheapest first.
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
        ..setting("100 %, collector away", &[])
    },
    Setting {
        books_alone: true,
        ..setting("100 %, console at info", &[("RUST_LOG", "info")])
    },
];

/// No telemetry.
pub(super) static OFF: &Setting = &SETTINGS[0];
/// One trace in a hundred.
pub(super) static PERCENT: &Setting = &SETTINGS[2];
/// All of it.
pub(super) static FULL: &Setting = &SETTINGS[3];

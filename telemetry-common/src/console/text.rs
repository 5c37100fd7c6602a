//! A line as text for people.

use std::fmt::{self, Write};

use tracing::Level;

use super::line::{Line, Subject, Transition};
use crate::{
    layers::Value,
    semconv::{EXCEPTION_STACKTRACE, EXCEPTION_TYPE},
};

/// Writes a line: time, level, module, message, fields as `name=value`, and ids.
///
/// `exception.type` and stack traces are omitted, because the messages of the error already describe
/// the failure in one line.
pub(super) fn write(out: &mut String, line: &Line<'_>, is_coloured: bool) -> fmt::Result {
    let paint = move |code: &'static str| if is_coloured { code } else { "" };
    let (dim, plain) = (paint("\x1b[2m"), paint("\x1b[0m"));
    let level = *line.metadata.level();
    let tint = paint(match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    });
    let (time, target) = (line.time, line.target());
    write!(out, "{dim}{time:.3}{plain} {tint}{level:>5}{plain} ")?;
    write!(out, "{dim}{target}:{plain} ")?;
    if let Subject::Span { transition, .. } = line.subject {
        let name = line.metadata.name();
        match transition {
            Transition::Started => write!(out, "{name} started")?,
            Transition::Ended(latency) => {
                write!(out, "{name} ended after {} ms", latency.as_millis())?;
            }
        }
    }
    let mut result = Ok(());
    line.for_each(|name, value| {
        let written = match (name, value) {
            ("message", value) => write!(Escape(out), "{value}"),
            (EXCEPTION_TYPE | EXCEPTION_STACKTRACE, _) => Ok(()),
            (name, Value::Str(value)) => write!(Escape(out), " {name}={value:?}"),
            (name, value) => write!(Escape(out), " {name}={value}"),
        };
        result = result.and(written);
    });
    line.ids.for_each(|name, id| {
        result = result.and(write!(out, " {dim}{name}={id}{plain}"));
    });
    out.push('\n');
    result
}

/// Escapes control characters, which could move a terminal's cursor or forge a log record.
struct Escape<'out>(&'out mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() && c != '\t' {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

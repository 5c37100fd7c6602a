//! A line in logfmt: `name=value` pairs, as Loki's `| logfmt` reads them.

use std::fmt::{self, Display, Write};

use super::line::{Line, Subject, Transition, free_name};

/// Writes a line: what it is about, its fields, time and ids.
pub(super) fn write(out: &mut String, line: &Line<'_>) -> fmt::Result {
    let metadata = line.metadata;
    write!(out, "level={}", metadata.level())?;
    match line.subject {
        Subject::Event { span, .. } => {
            write_fields(out, line)?;
            if let Some(name) = line.event_name() {
                write_pair(out, "event", name)?;
            }
            write_pair(out, "target", line.target())?;
            if let (Some(file), Some(number)) = (metadata.file(), metadata.line()) {
                write_pair(out, "location", format_args!("{file}:{number}"))?;
            }
            if let Some(span) = span {
                write_pair(out, "span", span)?;
            }
        }
        Subject::Span {
            id,
            parent,
            transition,
        } => {
            write_pair(out, "span_name", metadata.name())?;
            write_pair(out, "span", id)?;
            if let Some(parent) = parent {
                write_pair(out, "parent_span", parent)?;
            }
            match transition {
                Transition::Started => write_pair(out, "span_event", "new_span")?,
                Transition::Ended(latency) => {
                    write_pair(out, "span_event", "close_span")?;
                    write_pair(out, "latency_ms", latency.as_millis())?;
                }
            }
            write_fields(out, line)?;
            write_pair(out, "target", line.target())?;
        }
    }
    write_pair(out, "timestamp", format_args!("{:.3}", line.time))?;
    let mut result = Ok(());
    line.ids.for_each(|name, id| {
        result = result.and(write_pair(out, name, id));
    });
    out.push('\n');
    result
}

fn write_fields(out: &mut String, line: &Line<'_>) -> fmt::Result {
    let mut result = Ok(());
    line.for_each(|name, value| {
        let written = match name {
            "message" => write_pair(out, "msg", value),
            name => write_pair(out, &free_name(name), value),
        };
        result = result.and(written);
    });
    result
}

/// Writes a space and a pair. A name cannot be empty or contain quotes, `=` or whitespace: `_`
/// replaces them.
fn write_pair(out: &mut String, name: &str, value: impl Display) -> fmt::Result {
    let is_allowed = |c: char| c > ' ' && c != '=' && c != '"' && !c.is_control();
    out.push(' ');
    let name = if name.is_empty() { "_" } else { name };
    out.extend(name.chars().map(|c| if is_allowed(c) { c } else { '_' }));
    out.push('=');
    let start = out.len();
    write!(out, "{value}")?;
    let written = &out[start..];
    if written.is_empty() || !written.chars().all(|c| is_allowed(c) && c != '\\') {
        let raw = out.split_off(start);
        return write_quoted(out, &raw);
    }
    Ok(())
}

/// Writes a string in quotes, with the escapes of JSON.
fn write_quoted(out: &mut String, raw: &str) -> fmt::Result {
    out.push('"');
    for c in raw.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

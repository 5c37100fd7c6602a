//! Environment variables in the scalars of a file.
//!
//! <https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution>

use serde_json::Value;

/// Replaces `${NAME}`, `${env:NAME}` and `${NAME:-default}` in every scalar. `$$` is a dollar sign.
/// The type of a replaced scalar is that of its new text.
pub(super) fn substitute(value: Value, variable: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) if text.contains('$') => {
            let text = substitute_text(&text, variable);
            match serde_yaml_ng::from_str(&text) {
                Ok(scalar @ (Value::Null | Value::Bool(_) | Value::Number(_))) => scalar,
                _ => Value::String(text),
            }
        }
        Value::Array(items) => {
            let items = items.into_iter().map(|item| substitute(item, variable));
            Value::Array(items.collect())
        }
        Value::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value)| (name, substitute(value, variable)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

fn substitute_text(text: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut output = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            output.push('$');
            rest = escaped;
        } else if let Some((reference, after)) =
            after.strip_prefix('{').and_then(|it| it.split_once('}'))
        {
            let reference = reference.strip_prefix("env:").unwrap_or(reference);
            let (name, default) = reference.split_once(":-").unwrap_or((reference, ""));
            let value = variable(name).filter(|value| !value.is_empty());
            output.push_str(value.as_deref().unwrap_or(default));
            rest = after;
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

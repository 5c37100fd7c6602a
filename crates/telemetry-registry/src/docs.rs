//! `docs/telemetry.md`: what is emitted, by whom, why.

use std::fmt::Write;

use anyhow::Result;

use crate::{
    Registry,
    registry::{Group, Level, Type},
};

/// The page as it should stand in the checkout.
pub fn page(registry: &Registry) -> Result<String> {
    let mut page = String::from(
        "# Telemetry\n\nWritten by `cargo xtask telemetry` from `crates/telemetry-registry/registry/`; every test run of the \
         scenarios judges what\nis emitted against it. **Bold** attributes are always there.\n",
    );
    for (title, kind) in [
        ("Resource", "entity"),
        ("Spans", "span"),
        ("Metrics", "metric"),
        ("Events", "event"),
    ] {
        write!(page, "\n## {title}\n")?;
        for group in registry.of_type(kind) {
            signal(&mut page, registry, group)?;
        }
    }
    page.push_str("\n## Attributes\n\n| attribute | type | what it says |\n|---|---|---|\n");
    for attribute in registry.attributes.values() {
        let kind = match &attribute.r#type {
            Type::Simple(name) => name.clone(),
            Type::Enum { members } => {
                let values = members.iter().map(|member| format!("`{}`", member.value));
                values.collect::<Vec<_>>().join(", ")
            }
        };
        writeln!(
            page,
            "| `{}` | {kind} | {} |",
            attribute.id, attribute.brief
        )?;
    }
    Ok(page)
}

fn signal(page: &mut String, registry: &Registry, group: &Group) -> Result<()> {
    let notes = &group.annotations;
    let title = match &*group.r#type {
        "span" => {
            let names = notes.names.iter().map(|name| format!("`{name}`"));
            let kind = group
                .span_kind
                .as_deref()
                .unwrap_or_default()
                .to_uppercase();
            format!("{} {kind}", names.collect::<Vec<_>>().join(" or "))
        }
        "metric" => {
            let [name, instrument, unit] = [&group.metric_name, &group.instrument, &group.unit]
                .map(|text| text.as_deref().unwrap_or_default());
            format!("`{name}` {instrument}, {unit}")
        }
        "event" => {
            let name = group.name.as_deref().unwrap_or_default();
            format!("`{name}` {}", notes.severity.as_deref().unwrap_or_default())
        }
        _ => group.name.clone().unwrap_or_default(),
    };
    writeln!(page, "\n### {title}\n\n{}", group.brief)?;
    if let Some(note) = &group.note {
        writeln!(page, "{note}")?;
    }
    if !notes.by.is_empty() {
        writeln!(page, "\nBy {}.", notes.by.join(", "))?;
    }
    let carried = registry.carried(group)?;
    if !carried.is_empty() {
        let attributes = carried.iter().map(|reference| {
            let name = &reference.r#ref;
            match &reference.requirement_level {
                Level::Required => format!("**`{name}`**"),
                Level::ConditionallyRequired(when) => format!("`{name}` ({when})"),
                Level::Recommended | Level::OptIn => format!("`{name}`"),
            }
        });
        writeln!(
            page,
            "\nAttributes: {}.",
            attributes.collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(())
}

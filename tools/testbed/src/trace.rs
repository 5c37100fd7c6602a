//! Groups spans into traces and renders a trace as an indented tree.

use std::{collections::BTreeSet, fmt::Write};

use crate::sink::Span;

/// One trace: its spans, ordered by start time.
#[derive(Clone, Debug)]
pub struct Trace(Vec<Span>);

impl Trace {
    /// Collects the spans of the trace `id`.
    pub fn of(spans: &[Span], id: &str) -> Self {
        let mut spans: Vec<_> = spans
            .iter()
            .filter(|span| span.trace_id == id)
            .cloned()
            .collect();
        spans.sort_by_key(|span| span.start);
        Self(spans)
    }

    /// Returns the spans, ordered by start time.
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// Returns the first span with this name.
    pub fn named(&self, name: &str) -> Option<&Span> {
        self.0.iter().find(|span| span.name == name)
    }

    /// Returns the spans whose parent is not in this trace. A complete trace has exactly one.
    pub fn roots(&self) -> Vec<&Span> {
        let ids: BTreeSet<_> = self.0.iter().map(|span| &span.span_id).collect();
        let is_root = |span: &&Span| span.parent_id.as_ref().is_none_or(|id| !ids.contains(id));
        self.0.iter().filter(is_root).collect()
    }

    /// Returns the child spans of `parent`.
    pub fn children(&self, parent: &Span) -> Vec<&Span> {
        let is_child = |span: &&Span| span.parent_id.as_ref() == Some(&parent.span_id);
        self.0.iter().filter(is_child).collect()
    }

    /// Renders span names and kinds as a tree, indented by two spaces per level. Tests compare it.
    pub fn outline(&self) -> String {
        let mut lines = Vec::new();
        for root in self.roots() {
            self.walk(root, 0, &mut |span, depth| {
                lines.push(format!("{}{} {}", "  ".repeat(depth), span.name, span.kind));
            });
        }
        lines.join("\n")
    }

    fn walk(&self, span: &Span, depth: usize, visit: &mut dyn FnMut(&Span, usize)) {
        visit(span, depth);
        for child in self.children(span) {
            self.walk(child, depth + 1, visit);
        }
    }

    /// Renders the trace for people: name, kind, service, duration, links and errors.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for root in self.roots() {
            self.render_span(root, "", "", &mut text);
        }
        text
    }

    fn render_span(&self, span: &Span, prefix: &str, child_prefix: &str, text: &mut String) {
        let name = format!("{prefix}{}", span.name);
        let microseconds = (span.end.saturating_sub(span.start)) / 1_000;
        let links: String = span
            .links
            .iter()
            .map(|(_, id)| ["  → links to span ", id].concat())
            .collect();
        let failed = if span.status == "ERROR" {
            "  FAILED"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "  {name:<34} {:<8} {:<8} {:>5}.{:03} ms  {}{links}{failed}",
            span.kind,
            span.service(),
            microseconds / 1_000,
            microseconds % 1_000,
            span.span_id,
        );
        let children = self.children(span);
        for (index, child) in children.iter().enumerate() {
            let (branch, rest) = if index + 1 == children.len() {
                ("└ ", "  ")
            } else {
                ("├ ", "│ ")
            };
            self.render_span(
                child,
                &format!("{child_prefix}{branch}"),
                &format!("{child_prefix}{rest}"),
                text,
            );
        }
    }
}

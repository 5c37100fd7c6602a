//! Reads the Mermaid diagrams of a document: the parts that they name, and the arrows between them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

/// A flowchart or a sequence diagram.
#[derive(Debug, Default)]
pub struct Diagram {
    /// Whether it is a sequence diagram.
    pub is_sequence: bool,
    /// The identifiers of all parts.
    pub parts: BTreeSet<String>,
    /// All arrows, from part to part. Dashed arrows of a sequence diagram, which are responses, are
    /// left out.
    pub arrows: BTreeSet<(String, String)>,
}

impl Diagram {
    /// Reads all diagrams of a Markdown document. A line that it cannot read is an error.
    pub fn all(markdown: &str) -> Result<Vec<Self>> {
        let blocks = markdown.split("```mermaid\n").skip(1);
        let blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
        blocks.map(Self::read).collect()
    }

    fn read(block: &str) -> Result<Self> {
        let mut lines = block.lines().map(str::trim);
        let title = lines.next().unwrap_or_default();
        let mut diagram = Self {
            is_sequence: title == "sequenceDiagram",
            ..Self::default()
        };
        for line in lines.filter(|line| !line.is_empty()) {
            let read = if diagram.is_sequence {
                diagram.message(line)
            } else {
                diagram.edges(line)
            };
            read.context(line.to_owned())?;
        }
        Ok(diagram)
    }

    /// Reads `a->>b: text`, `a-->>b: text`, `actor a` or `Note over a, b: text`.
    fn message(&mut self, line: &str) -> Result<()> {
        for keyword in ["actor ", "Note over "] {
            if let Some(parts) = line.strip_prefix(keyword) {
                let parts = parts.split(':').next().unwrap_or_default().split(',');
                self.parts.extend(parts.map(identifier));
                return Ok(());
            }
        }
        let (arrow, _) = line.split_once(':').context("no text")?;
        if let Some((from, to)) = arrow.split_once("-->>") {
            self.parts.extend([identifier(from), identifier(to)]);
        } else {
            let (from, to) = arrow.split_once("->>").context("no arrow")?;
            self.connect(from, to);
        }
        Ok(())
    }

    /// Reads `a & b -- text --> c & d`, `a --> b` or `a -.-> b`.
    fn edges(&mut self, line: &str) -> Result<()> {
        for (begin, end) in [(" -- ", " --> "), (" -->", " "), (" -.->", " ")] {
            let Some((from, rest)) = line.split_once(begin) else {
                continue;
            };
            let (_, to) = rest.split_once(end).context("the arrow has no end")?;
            for from in from.split(" & ") {
                for to in to.split(" & ") {
                    self.connect(from, to);
                }
            }
            return Ok(());
        }
        bail!("no arrow")
    }

    fn connect(&mut self, from: &str, to: &str) {
        let (from, to) = (identifier(from), identifier(to));
        self.parts.extend([from.clone(), to.clone()]);
        self.arrows.insert((from, to));
    }
}

/// Returns `tempo` for `tempo[(Tempo)]`, and `user` for `user as you`.
fn identifier(part: &str) -> String {
    let mut words = part.trim().split(['[', '(', '{', ' ']);
    words.next().unwrap_or_default().to_owned()
}

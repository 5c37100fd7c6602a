//! Reads the registry files.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// All declared attributes and signals.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// The groups in file order: spans, metrics, events, entities and attribute groups.
    pub groups: Vec<Group>,
}

/// The definition of an attribute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// The attribute's name.
    pub id: String,
    /// The type of its values.
    pub r#type: Type,
    /// A short description.
    pub brief: String,
    /// The stability level.
    pub stability: String,
    /// Example values.
    #[serde(default)]
    pub examples: serde_json::Value,
    /// The reason for the deprecation, if the attribute is deprecated.
    #[serde(default)]
    pub deprecated: Option<serde_json::Value>,
}

/// The type of an attribute's values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Type {
    /// A primitive type: `string`, `int`, `double`, `boolean` or `string[]`.
    Simple(String),
    /// A string from a fixed set.
    Enum {
        /// The allowed values.
        members: Vec<Member>,
    },
}

/// An allowed value of an enum attribute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The name of the value in code.
    pub id: String,
    /// The value.
    pub value: String,
    /// A short description.
    pub brief: String,
    /// The stability level.
    pub stability: String,
}

/// A span, a metric, an event, an entity or an attribute group, with its attributes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The unique id of the group in the registry.
    pub id: String,
    /// `attribute_group`, `span`, `metric`, `event` or `entity`.
    pub r#type: String,
    /// The title of an attribute group.
    #[serde(default)]
    pub display_name: Option<String>,
    /// A short description.
    pub brief: String,
    /// Additional documentation.
    #[serde(default)]
    pub note: Option<String>,
    /// The stability level.
    #[serde(default)]
    pub stability: Option<String>,
    /// The id of a group whose attributes this group inherits.
    #[serde(default)]
    pub extends: Option<String>,
    /// The kind of a span.
    #[serde(default)]
    pub span_kind: Option<String>,
    /// The name of a metric.
    #[serde(default)]
    pub metric_name: Option<String>,
    /// The instrument of a metric.
    #[serde(default)]
    pub instrument: Option<String>,
    /// The unit of a metric.
    #[serde(default)]
    pub unit: Option<String>,
    /// The name of an event or an entity.
    #[serde(default)]
    pub name: Option<String>,
    /// References to attributes, or definitions of attributes.
    #[serde(default)]
    attributes: Vec<Entry>,
    /// Fields that Weaver's format does not have.
    #[serde(default)]
    pub annotations: Annotations,
}

/// Fields that Weaver's format does not have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// The services that emit the signal.
    #[serde(default)]
    pub by: Vec<String>,
    /// The possible names of a span. `{key}` is a placeholder for the value of that attribute.
    #[serde(default)]
    pub names: Vec<String>,
    /// The severity of an event.
    #[serde(default)]
    pub severity: Option<String>,
    /// The bucket boundaries of a histogram.
    #[serde(default)]
    pub boundaries: Vec<f64>,
    /// The reason why the test scenario does not emit the signal.
    #[serde(default)]
    pub rarely: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Reference(Reference),
    Definition(Attribute),
}

/// A reference from a signal to one of its attributes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The name of the attribute.
    pub r#ref: String,
    /// The requirement level of the attribute.
    #[serde(default)]
    pub requirement_level: Level,
}

/// The requirement level of an attribute, as the semantic conventions define it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The attribute is always present.
    Required,
    /// The attribute is present if its value is known.
    #[default]
    Recommended,
    /// The attribute is present only if it is enabled.
    OptIn,
    /// The attribute is present under this condition.
    ConditionallyRequired(String),
}

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

impl Registry {
    /// Reads the registry of this checkout.
    pub fn of_checkout() -> Result<Self> {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("registry"))
    }

    /// Reads all files in `folder` except `manifest.yaml`.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut registry = Self::default();
        let mut files: Vec<_> = fs::read_dir(folder)?
            .map(|file| Ok(file?.path()))
            .collect::<Result<_>>()?;
        files.retain(|path| path.file_name().is_some_and(|name| name != "manifest.yaml"));
        files.sort();
        for path in files {
            let text = fs::read_to_string(&path)?;
            let file: File = serde_yaml_ng::from_str(&text)
                .with_context(|| format!("{} is not a valid registry file", path.display()))?;
            for group in file.groups {
                registry.add(group)?;
            }
        }
        registry.check()?;
        Ok(registry)
    }

    fn add(&mut self, mut group: Group) -> Result<()> {
        ensure!(
            self.groups.iter().all(|known| known.id != group.id),
            "duplicate group id {}",
            group.id
        );
        group.attributes.retain(|entry| match entry {
            Entry::Reference(_) => true,
            Entry::Definition(attribute) => {
                self.attributes
                    .insert(attribute.id.clone(), attribute.clone());
                false
            }
        });
        self.groups.push(group);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        for group in &self.groups {
            for reference in self.references(group)? {
                let Some(attribute) = self.attributes.get(&reference.r#ref) else {
                    bail!(
                        "{} references the undefined attribute {}",
                        group.id,
                        reference.r#ref
                    );
                };
                ensure!(
                    attribute.deprecated.is_none(),
                    "{} references the deprecated attribute {}",
                    group.id,
                    attribute.id
                );
            }
        }
        Ok(())
    }

    /// Returns the attribute references of a group, including the inherited ones.
    pub fn references<'r>(&'r self, group: &'r Group) -> Result<Vec<&'r Reference>> {
        let mut references = match &group.extends {
            None => Vec::new(),
            Some(id) => {
                let found = self.groups.iter().find(|group| group.id == *id);
                self.references(found.with_context(|| format!("undefined group {id}"))?)?
            }
        };
        references.extend(group.attributes.iter().filter_map(|entry| match entry {
            Entry::Reference(reference) => Some(reference),
            Entry::Definition(_) => None,
        }));
        Ok(references)
    }

    /// Returns the groups of one type.
    pub fn of_type(&self, name: &str) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.r#type == name)
    }
}

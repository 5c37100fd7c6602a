//! The registry's files as values.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Everything that may be emitted.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// What an attribute is, by its name.
    pub attributes: BTreeMap<String, Attribute>,
    /// Everything else, in the order of the files: what a signal carries.
    pub groups: Vec<Group>,
}

/// An attribute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name.
    pub id: String,
    /// What its values are.
    pub r#type: Type,
    /// What it says.
    pub brief: String,
    /// How settled it is.
    pub stability: String,
    /// Some values.
    #[serde(default)]
    pub examples: serde_json::Value,
    /// Why it must no longer be used.
    #[serde(default)]
    pub deprecated: Option<serde_json::Value>,
}

/// What an attribute's values are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Type {
    /// `string`, `int`, `double`, `boolean`, `string[]`.
    Simple(String),
    /// One of a few strings.
    Enum {
        /// The strings.
        members: Vec<Member>,
    },
}

/// A value an attribute may have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name in code.
    pub id: String,
    /// The value.
    pub value: String,
    /// What it says.
    pub brief: String,
    /// How settled it is.
    pub stability: String,
}

/// A span, a metric, an event or an entity, and the attributes it carries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name in the registry.
    pub id: String,
    /// `attribute_group`, `span`, `metric`, `event` or `entity`.
    pub r#type: String,
    /// The title of a group of attributes.
    #[serde(default)]
    pub display_name: Option<String>,
    /// What it says.
    pub brief: String,
    /// More about it.
    #[serde(default)]
    pub note: Option<String>,
    /// How settled it is.
    #[serde(default)]
    pub stability: Option<String>,
    /// A group whose attributes it carries too.
    #[serde(default)]
    pub extends: Option<String>,
    /// A span's kind.
    #[serde(default)]
    pub span_kind: Option<String>,
    /// A metric's name.
    #[serde(default)]
    pub metric_name: Option<String>,
    /// A metric's instrument.
    #[serde(default)]
    pub instrument: Option<String>,
    /// A metric's unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// An event's or entity's name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it carries, or what is defined.
    #[serde(default)]
    attributes: Vec<Entry>,
    /// What Weaver's format has no word for.
    #[serde(default)]
    pub annotations: Annotations,
}

/// What Weaver's format has no word for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// Who emits it.
    #[serde(default)]
    pub by: Vec<String>,
    /// A span's possible names; `{key}` stands for the value of that attribute.
    #[serde(default)]
    pub names: Vec<String>,
    /// An event's severity.
    #[serde(default)]
    pub severity: Option<String>,
    /// A histogram's bucket boundaries.
    #[serde(default)]
    pub boundaries: Vec<f64>,
    /// Why the main scenarios do not bring it about.
    #[serde(default)]
    pub rarely: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Reference(Reference),
    Definition(Attribute),
}

/// An attribute that a signal carries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The attribute's name.
    pub r#ref: String,
    /// How surely it is there.
    #[serde(default)]
    pub requirement_level: Level,
}

/// How surely an attribute is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Always.
    Required,
    /// When it is known.
    #[default]
    Recommended,
    /// When it was asked for.
    OptIn,
    /// Under this condition.
    ConditionallyRequired(String),
}

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

impl Registry {
    /// The registry of this checkout.
    pub fn of_checkout() -> Result<Self> {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("registry"))
    }

    /// Reads every file of `folder` but its manifest.
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
                .with_context(|| format!("{} is no registry file", path.display()))?;
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
            "{} stands twice",
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
            for reference in self.carried(group)? {
                let Some(attribute) = self.attributes.get(&reference.r#ref) else {
                    bail!("{} carries {}, which is nowhere", group.id, reference.r#ref);
                };
                ensure!(
                    attribute.deprecated.is_none(),
                    "{} carries {}, which is deprecated",
                    group.id,
                    attribute.id
                );
            }
        }
        Ok(())
    }

    /// The attributes a signal carries, those it extends among them.
    pub fn carried<'r>(&'r self, group: &'r Group) -> Result<Vec<&'r Reference>> {
        let mut carried = match &group.extends {
            None => Vec::new(),
            Some(id) => {
                let found = self.groups.iter().find(|group| group.id == *id);
                self.carried(found.with_context(|| format!("there is no group {id}"))?)?
            }
        };
        carried.extend(group.attributes.iter().filter_map(|entry| match entry {
            Entry::Reference(reference) => Some(reference),
            Entry::Definition(_) => None,
        }));
        Ok(carried)
    }

    /// The groups of one type.
    pub fn of_type(&self, name: &str) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.r#type == name)
    }
}

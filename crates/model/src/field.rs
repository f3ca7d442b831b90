//! Paths of fields, as `services.api.ports[1]`: one spelling for the file's errors and the API's.

use std::fmt;

use crate::problem::plain;

/// Path of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Field(String);

impl Field {
    /// The whole file.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// The value of `key` in the mapping here.
    pub(crate) fn key(&self, key: impl fmt::Display) -> Self {
        let key = plain(&key.to_string());
        if self.0.is_empty() { Self(key) } else { Self(format!("{}.{key}", self.0)) }
    }

    /// An element of the list here.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// What holds this field; `None` at the top.
    pub(crate) fn parent(&self) -> Option<Self> {
        let end = self.0.rfind(['.', '['])?;
        Some(Self(self.0[..end].to_owned()))
    }

    /// Whether this is `other` or within it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| {
            rest.is_empty() || other.0.is_empty() || rest.starts_with(['.', '['])
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_keys_and_indices() {
        let port = Field::root().key("services").key("api").key("ports").index(1);
        assert_eq!(port.to_string(), "services.api.ports[1]");
        assert_eq!(port.key("name").to_string(), "services.api.ports[1].name");
        assert_eq!(port.parent().map(String::from).as_deref(), Some("services.api.ports"));
        assert_eq!(Field::root().key("name").parent(), None);
    }

    #[test]
    fn knows_what_it_is_within() {
        let api = Field::root().key("services").key("api");
        assert!(api.key("ports").index(0).is_within(&api));
        assert!(api.is_within(&Field::root()));
        assert!(!Field::root().key("services").key("api-2").is_within(&api));
    }

    #[test]
    fn shows_control_characters_of_a_key_escaped() {
        assert_eq!(Field::root().key("a\u{1b}[31m").to_string(), "\"a\\u{1b}[31m\"");
    }
}

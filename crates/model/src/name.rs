//! Names that become DNS labels, directories and cgroups: one rule for all of them.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {value:?} is not a DNS label: use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"
)]
pub struct NameError {
    /// What the text should have named.
    pub what: &'static str,
    /// The text.
    pub value: String,
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    (1..=63).contains(&text.len())
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

// A name stands in many places; its text in one.
macro_rules! names {
    ($($(#[$meta:meta])* $name:ident: $what:literal)*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a DNS label.
            ///
            /// # Errors
            /// When `text` is not one.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if is_label(&text) { Ok(Self(text.into())) } else { Err(NameError { what: $what, value: text }) }
            }

            /// The label.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> { Self::new(text) }
        }
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> { Self::new(text) }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String { name.0.as_ref().to_owned() }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
    )* };
}

names! {
    /// Name of a service, unique on the network: `orders` is reached as `orders.sinew.internal`.
    ServiceName: "service name"
    /// Name of a project: the set of services that one file describes.
    ProjectName: "project name"
    /// Name of a host, unique in its network.
    NodeName: "node name"
    /// Name of a zone: hosts that fail together.
    ZoneName: "zone name"
    /// Name of a network: all hosts that trust one certificate authority.
    NetworkName: "network name"
    /// Name of a replica of the control plane, unique in its network.
    ControlName: "control name"
    /// Name of a port, unique in its service.
    PortName: "port name"
}

impl PortName {
    /// A text that is a label by construction.
    pub(crate) fn trusted(text: String) -> Self {
        debug_assert!(is_label(&text), "{text:?}");
        Self(text.into())
    }
}

impl ProjectName {
    /// The label nearest to a directory's name: `My Shop` gives `my-shop`.
    ///
    /// # Errors
    /// When nothing of the name can stand in a label.
    pub fn from_directory(name: &str) -> Result<Self, NameError> {
        let allowed =
            |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let label: String = name.chars().map(allowed).skip_while(|c| *c == '-').take(63).collect();
        Self::new(label.trim_end_matches('-'))
            .map_err(|error| NameError { value: name.to_owned(), ..error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names() {
        for text in ["a", "0", "orders", "orders-2", "2-orders", &"a".repeat(63)] {
            assert_eq!(ServiceName::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn everything_else_is_not() {
        for text in ["", "-a", "a-", "A", "a_b", "a.b", "a b", "\u{e9}", &"a".repeat(64)] {
            assert_eq!(
                ServiceName::new(text).unwrap_err().to_string(),
                format!(
                    "service name {text:?} is not a DNS label: use 1 to 63 of a-z, 0-9 and '-', \
                     with a letter or digit at both ends"
                )
            );
        }
    }

    #[test]
    fn a_directory_gives_its_nearest_label() {
        for (directory, name) in [
            ("shop", "shop"),
            ("My Shop", "my-shop"),
            ("_shop_", "shop"),
            ("shop.git", "shop-git"),
            (&"x".repeat(80), &"x".repeat(63)),
        ] {
            assert_eq!(ProjectName::from_directory(directory).unwrap().as_str(), name);
        }
        assert_eq!(ProjectName::from_directory("__").unwrap_err().value, "__");
        assert!(ProjectName::from_directory("").is_err());
    }
}

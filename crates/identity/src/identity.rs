//! SPIFFE ids: `spiffe://<network>/node/<node>` and `spiffe://<network>/control/<replica>`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sinew_model::{ControlName, NameError, NetworkName, NodeName};

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// In which network.
    pub network: NetworkName,
    /// What it is there.
    pub role: Role,
}

/// What somebody is in a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// A host.
    Node(NodeName),
    /// A replica of the control plane.
    Control(ControlName),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Control(name) => write!(f, "control/{name}"),
        }
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let name = |error| IdentityError::Name { text: text.to_owned(), error };
        match text.split_once('/') {
            Some(("node", holder)) => Ok(Self::Node(NodeName::new(holder).map_err(name)?)),
            Some(("control", holder)) => Ok(Self::Control(ControlName::new(holder).map_err(name)?)),
            _ => Err(IdentityError::Form { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Role {
    type Error = IdentityError;
    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.to_string()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.network, self.role)
    }
}

/// Why a text is not an [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Of another form.
    #[error(
        "{text:?} is not an id of Sinew: it reads spiffe://NETWORK/node/NODE or spiffe://NETWORK/control/REPLICA"
    )]
    Form {
        /// The text.
        text: String,
    },
    /// A name in it is none.
    #[error("in id {text:?}: {error}")]
    Name {
        /// The text.
        text: String,
        /// Which name.
        #[source]
        error: NameError,
    },
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form { text: text.to_owned() };
        let name = |error| IdentityError::Name { text: text.to_owned(), error };
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let (network, role) = rest.split_once('/').ok_or_else(form)?;
        let role = role.parse()?;
        Ok(Self { network: NetworkName::new(network).map_err(name)?, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["spiffe://prod/node/web-1", "spiffe://prod/control/a"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "prod/node/a",
            "spiffe://prod",
            "spiffe://prod/node",
            "spiffe://prod/node/a/b",
            "spiffe://prod/host/a",
            "https://prod/node/a",
            "spiffe://prod/node/a/",
            "spiffe://prod/node/",
            "spiffe://prod/node/A",
            "spiffe:///node/a",
            "spiffe://prod/node/a?b",
            "spiffe://prod:1/node/a",
            "SPIFFE://prod/node/a",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}

//! Which network this host has joined, and as what: said once, kept on disk, and held until
//! somebody says otherwise.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sinew_identity::token::{Token, TokenId};
use sinew_model::{NameError, NodeName, ZoneName, fleet::is_hosts_own};
use sinew_proto::PORT;

use crate::store::{Document, Loaded, StoreError};

const FILE: &str = "fleet.json";
/// Raised when an older agent could not understand the file.
const VERSION: u32 = 1;
/// Where a host is that was not told.
const ZONE: &str = "default";

/// What an agent is told of the network of many hosts that it is to join. What is left out stays as
/// it was said last.
#[derive(Debug, Default)]
pub struct JoinOptions {
    /// Where control listens, as `HOST` or `HOST:PORT`.
    pub control: Vec<String>,
    /// What allows to join.
    pub token: Option<Token>,
    /// The name of this host.
    pub node: Option<NodeName>,
    /// Where it is.
    pub zone: Option<ZoneName>,
    /// Words that placement goes by.
    pub labels: BTreeMap<String, String>,
    /// Addresses of this host that lead to its instances, of each family at most one.
    pub addresses: Vec<IpAddr>,
    /// Whether it runs what is placed on it.
    pub placement: Option<bool>,
}

/// A text that says where control is, with the port; `None`: it says no such thing.
#[must_use]
pub fn control_address(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT).to_string());
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Some(text.to_owned());
    }
    let is_host = |host: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
    };
    match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            is_host(host).then(|| format!("{host}:{port}"))
        }
        None => is_host(text).then(|| format!("{text}:{PORT}")),
    }
}

/// Why an agent cannot join a network.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody said where control is.
    #[error("{option} is of use to a host that joins a network, and nobody said which")]
    NoControl {
        /// What was given.
        option: &'static str,
    },
    /// Without a token.
    #[error("this host has not joined a network, and no token allows it to")]
    NoToken,
    /// The host has joined under another name.
    #[error("this host has joined as {joined}, and {asked} is another host")]
    OtherNode {
        /// As what it has joined.
        joined: NodeName,
        /// As what it was started.
        asked: NodeName,
    },
    /// The host's own name is of no use.
    #[error("the host's name {hostname:?} makes no name of a host: {error}")]
    Hostname {
        /// As the kernel says.
        hostname: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Two of one family.
    #[error(
        "--address names {first} and {second}: one of a family leads to the instances of a host"
    )]
    Addresses {
        /// One.
        first: IpAddr,
        /// Another.
        second: IpAddr,
    },
    /// Others do not meet this host at it.
    #[error("--address names {address}, at which other hosts do not reach this one")]
    Address {
        /// It.
        address: IpAddr,
    },
    /// What is kept of the network cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl JoinError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoControl { .. } => "name control with --join HOST",
            Self::NoToken => "make one with `sinew token create` and give it with --token",
            Self::OtherNode { .. } => {
                "leave --node out, or join under the new name with a fresh --token"
            }
            Self::Hostname { .. } => "name the host with --node NAME",
            Self::Addresses { .. } => "leave one of them out",
            Self::Address { .. } => {
                "name one of its own that others have a route to, or leave it out"
            }
            Self::Store(error) => error.remedy(),
        }
    }
}

/// A network that this host has joined, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// Where control listens; any will do.
    pub(crate) control: Vec<String>,
    /// The host's name there.
    pub(crate) node: NodeName,
    /// Where it is.
    pub(crate) zone: ZoneName,
    /// Words that placement goes by.
    pub(crate) labels: BTreeMap<String, String>,
    /// Addresses that lead to its instances; those that are missing, control sees.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether it runs what is placed on it.
    #[serde(default)]
    pub(crate) placement: bool,
    /// By which token: another one is a word to join again.
    pub(crate) token: Option<TokenId>,
    /// It has left, and joins again by a fresh token only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) left: bool,
}

/// What an agent's start has to do about the network.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) joined: Joined,
    /// To be used before anything else.
    pub(crate) token: Option<Token>,
    /// It never was in this network.
    pub(crate) first: bool,
    /// It was, under another name.
    pub(crate) renamed: bool,
}

/// What is kept of the network.
#[derive(Debug)]
pub(crate) struct Kept(Document);

impl Kept {
    /// In the state directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self(Document::new(directory, FILE, VERSION))
    }

    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, joined: &Joined) -> Result<(), StoreError> {
        self.0.save(joined)
    }

    /// This host is in no network any more; nothing is done when it was in none.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn leave(&self, now_ms: u64) -> Result<(), StoreError> {
        match self.0.load::<Joined>(now_ms)? {
            Loaded::Intact(joined) => self.save(&Joined { left: true, ..*joined }),
            Loaded::Nothing | Loaded::Corrupt { .. } => Ok(()),
        }
    }

    /// Whether this host was in a network and has left it.
    pub(crate) fn has_left(&self, now_ms: u64) -> bool {
        matches!(self.0.load::<Joined>(now_ms), Ok(Loaded::Intact(joined)) if joined.left)
    }

    /// What this host is in, after `options`; `None`: it is alone.
    ///
    /// # Errors
    /// When the options cannot be followed.
    pub(crate) fn enter(
        &self,
        options: JoinOptions,
        hostname: &str,
        now_ms: u64,
    ) -> Result<Option<Entry>, JoinError> {
        let before = match self.0.load::<Joined>(now_ms)? {
            Loaded::Intact(joined) => Some(*joined),
            Loaded::Nothing => None,
            Loaded::Corrupt { aside, fault } => {
                tracing::warn!(
                    "which network this host is in could not be read ({fault}); the file lies in {}; \
                     say it again with --join",
                    aside.display()
                );
                None
            }
        };
        enter(before, options, hostname)
    }
}

fn enter(
    before: Option<Joined>,
    options: JoinOptions,
    hostname: &str,
) -> Result<Option<Entry>, JoinError> {
    if before.is_none() && options.control.is_empty() {
        return options.given().map_or(Ok(None), |option| Err(JoinError::NoControl { option }));
    }
    if let Some(left) = before.as_ref().filter(|before| before.left) {
        let is_fresh = |token: &Token| left.token.as_ref() != Some(&token.id);
        if !options.token.as_ref().is_some_and(is_fresh) {
            tracing::warn!(
                "this host has left the network that it was in as {}, and is alone; a fresh token joins \
                 it again",
                left.node
            );
            return Ok(None);
        }
    }
    check_addresses(&options.addresses)?;
    let JoinOptions { control, token, node, zone, labels, addresses, placement } = options;
    let first = before.as_ref().is_none_or(|before| before.left);
    let node = match (node, &before) {
        (Some(asked), Some(before)) if asked != before.node && token.is_none() => {
            return Err(JoinError::OtherNode { joined: before.node.clone(), asked });
        }
        (Some(asked), _) => asked,
        (None, Some(before)) => before.node.clone(),
        (None, None) => named_after(hostname)?,
    };
    let fallback = ZoneName::new(ZONE)
        .map_err(|error| JoinError::Hostname { hostname: ZONE.to_owned(), error })?;
    let renamed = before.as_ref().is_some_and(|before| before.node != node);
    let before = before.unwrap_or_else(|| Joined {
        control: Vec::new(),
        node: node.clone(),
        zone: fallback,
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        placement: false,
        token: None,
        left: false,
    });
    // The token that let it in stands in many a unit file: it is of no use a second time.
    let known = before.node == node && before.token.is_some();
    let token = token.filter(|token| !known || before.token.as_ref() != Some(&token.id));
    let or = |given: Vec<_>, kept| if given.is_empty() { kept } else { given };
    let joined = Joined {
        control: if control.is_empty() { before.control } else { control },
        node,
        zone: zone.unwrap_or(before.zone),
        labels: if labels.is_empty() { before.labels } else { labels },
        addresses: or(addresses, before.addresses),
        placement: placement.unwrap_or(before.placement),
        token: before.token,
        left: false,
    };
    Ok(Some(Entry { joined, token, first, renamed }))
}

impl JoinOptions {
    /// An option that only a host of a network has.
    fn given(&self) -> Option<&'static str> {
        [
            (self.token.is_some(), "--token"),
            (self.node.is_some(), "--node"),
            (self.zone.is_some(), "--zone"),
            (!self.labels.is_empty(), "--label"),
            (!self.addresses.is_empty(), "--address"),
            (self.placement.is_some(), "--placement"),
        ]
        .into_iter()
        .find_map(|(given, option)| given.then_some(option))
    }
}

fn check_addresses(addresses: &[IpAddr]) -> Result<(), JoinError> {
    if let Some(address) = addresses.iter().find(|address| !is_hosts_own(**address)) {
        return Err(JoinError::Address { address: *address });
    }
    for (index, first) in addresses.iter().enumerate() {
        let second = addresses[..index].iter().find(|other| other.is_ipv4() == first.is_ipv4());
        if let Some(second) = second {
            return Err(JoinError::Addresses { first: *second, second: *first });
        }
    }
    Ok(())
}

/// The first label of the host's own name.
fn named_after(hostname: &str) -> Result<NodeName, JoinError> {
    let label = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    NodeName::new(label)
        .map_err(|error| JoinError::Hostname { hostname: hostname.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use sinew_identity::{Fingerprint, token::RANDOM_BYTES};

    use super::*;

    fn token(byte: u8) -> Token {
        Token::new([byte; RANDOM_BYTES], Fingerprint::of(b"root"))
    }

    fn options(control: &str) -> JoinOptions {
        let control = control.split(',').filter(|word| !word.is_empty());
        JoinOptions { control: control.map(str::to_owned).collect(), ..JoinOptions::default() }
    }

    fn started(before: Option<&Joined>, options: JoinOptions) -> Result<Option<Entry>, JoinError> {
        enter(before.cloned(), options, "Web1.example.com")
    }

    fn joined() -> Joined {
        let first = JoinOptions { token: Some(token(1)), ..options("c1,c2:99") };
        let Entry { mut joined, token, first, .. } = started(None, first).unwrap().unwrap();
        assert!(first);
        joined.token = token.map(|token| token.id);
        joined
    }

    #[test]
    fn who_names_no_network_is_alone() {
        assert!(started(None, options("")).unwrap().is_none());
        let alone = JoinOptions { zone: Some("a".parse().unwrap()), ..options("") };
        let error = started(None, alone).unwrap_err();
        assert!(error.to_string().starts_with("--zone is of use"), "{error}");
    }

    #[test]
    fn what_was_said_once_holds() {
        let before = joined();
        assert_eq!(before.node.as_str(), "web1");
        assert_eq!((before.zone.as_str(), before.control.len()), ("default", 2));
        let Entry { joined, token, first, .. } =
            started(Some(&before), options("")).unwrap().unwrap();
        assert!(!first && token.is_none());
        assert_eq!(joined, before);
        let moved = JoinOptions { zone: Some("b".parse().unwrap()), ..options("c3") };
        let entry = started(Some(&before), moved).unwrap().unwrap();
        assert_eq!(entry.joined.control, ["c3"]);
        assert_eq!((entry.joined.zone.as_str(), entry.joined.node), ("b", before.node));
    }

    #[test]
    fn the_token_of_the_unit_file_is_used_once_and_another_one_joins_again() {
        let before = joined();
        let again = |byte| JoinOptions { token: Some(token(byte)), ..options("") };
        assert!(started(Some(&before), again(1)).unwrap().unwrap().token.is_none());
        let fresh = started(Some(&before), again(2)).unwrap().unwrap().token.unwrap();
        assert_eq!(fresh.id, token(2).id);
    }

    #[test]
    fn who_has_left_joins_again_by_a_fresh_token_alone() {
        let before = Joined { left: true, ..joined() };
        let again = |token| JoinOptions { token, ..options("c9") };
        assert!(started(Some(&before), options("")).unwrap().is_none());
        assert!(started(Some(&before), again(None)).unwrap().is_none());
        assert!(started(Some(&before), again(Some(token(1)))).unwrap().is_none());
        let entry = started(Some(&before), again(Some(token(2)))).unwrap().unwrap();
        assert!(entry.first && !entry.joined.left && entry.token.is_some());
        assert_eq!((entry.joined.node, entry.joined.control), (before.node, vec!["c9".to_owned()]));
    }

    #[test]
    fn another_name_takes_a_token() {
        let before = joined();
        let renamed =
            |token| JoinOptions { node: Some("other".parse().unwrap()), token, ..options("") };
        let error = started(Some(&before), renamed(None)).unwrap_err();
        assert!(matches!(error, JoinError::OtherNode { .. }), "{error}");
        let entry = started(Some(&before), renamed(Some(token(1)))).unwrap().unwrap();
        assert_eq!(entry.joined.node.as_str(), "other");
        assert!(entry.token.is_some());
    }

    #[test]
    fn control_is_a_host_and_a_port() {
        for (text, address) in [
            ("c1", "c1:7443"),
            ("c1.example.com:99", "c1.example.com:99"),
            ("192.0.2.1", "192.0.2.1:7443"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("::1", "[::1]:7443"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(control_address(text).as_deref(), Some(address));
        }
        for text in ["", ":1", "c1:", "c1:x", "c1:0", "c1:70000", "a b", "http://c1", "[::1]"] {
            assert_eq!(control_address(text), None, "{text}");
        }
    }

    #[test]
    fn two_addresses_of_a_family_are_refused() {
        let addresses = ["10.0.0.1", "fd64::1", "10.0.0.2"].map(|a| a.parse().unwrap()).to_vec();
        let both = JoinOptions { addresses, ..options("c1") };
        let error = started(None, both).unwrap_err().to_string();
        assert!(error.contains("names 10.0.0.1 and 10.0.0.2"), "{error}");
        for address in ["0.0.0.0", "127.0.0.1", "fe80::1", "::ffff:10.0.0.1", "224.0.0.1"] {
            let nobodys = vec![address.parse().unwrap()];
            let options = JoinOptions { addresses: nobodys, ..options("c1") };
            let error = started(None, options).unwrap_err();
            assert!(matches!(error, JoinError::Address { .. }), "{error}");
        }
        let error = enter(None, options("c1"), "web_1").unwrap_err();
        assert!(matches!(error, JoinError::Hostname { .. }), "{error}");
    }
}

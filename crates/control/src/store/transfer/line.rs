//! The lines.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::{Entry, LeaseId};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Header(Header),
    Lease(LeaseLine),
    Entry(EntryLine),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) schema: u32,
    pub(super) revision: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaseLine {
    pub(super) id: String,
    pub(super) ttl_s: u64,
}

/// Text where it is text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) leases: u64,
    pub(super) entries: u64,
}

/// What an entry's line says.
pub(super) struct Parsed {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) lease: Option<LeaseId>,
}

impl EntryLine {
    pub(super) fn new(entry: &Entry) -> Self {
        let (key, key_base64) = written(&entry.key);
        let (value, value_base64) = written(&entry.value);
        let lease = entry.lease.map(|lease| lease.to_string());
        Self { key, key_base64, value, value_base64, lease }
    }

    pub(super) fn parse(self) -> Result<Parsed, String> {
        let key = read("key", self.key, self.key_base64)?;
        if key.is_empty() {
            return Err("the key is empty".to_owned());
        }
        let value = read("value", self.value, self.value_base64)?;
        let lease = self.lease.map(|lease| parse_lease(&lease)).transpose()?;
        Ok(Parsed { key, value, lease })
    }
}

pub(super) fn parse_lease(id: &str) -> Result<LeaseId, String> {
    let number = u64::from_str_radix(id, 16);
    number.map(LeaseId).map_err(|_| format!("lease {id:?} is no hexadecimal number"))
}

fn written(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn read(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(format!("{name}_base64: {error}")),
        },
        _ => Err(format!("it has to have either {name} or {name}_base64")),
    }
}

//! A mapping with known keys: each key once, none unknown.

use std::collections::BTreeMap;

use super::{
    Position,
    context::Context,
    tree::{Content, Node},
};
use crate::{Expected, KeyError, field::Field, words::nearest};

/// Words of compose files and of other tools for keys of ours.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("environment", "env"),
    ("healthcheck", "health"),
    ("health_check", "health"),
    ("entrypoint", "command"),
    ("cmd", "command"),
    ("exec_start", "command"),
    ("scale", "replicas"),
    ("instances", "replicas"),
    ("expose", "ports"),
    ("cwd", "working_dir"),
    ("stop_grace_period", "stop"),
    ("cap_add", "privileges"),
];

/// The entries of a mapping, by key.
pub(super) struct Section<'n> {
    pub(super) at: Position,
    pub(super) field: Field,
    entries: BTreeMap<&'n str, &'n Node>,
}

impl<'n> Section<'n> {
    /// Reads a mapping whose keys are `known`; notes those that are not, and those given twice.
    pub(super) fn read(
        context: &mut Context<'_>,
        node: &'n Node,
        field: &Field,
        known: &'static [&'static str],
    ) -> Option<Self> {
        Self::read_as(context, node, field, known, Expected::Mapping(known))
    }

    /// The same, where a better word than mapping tells what belongs there.
    pub(super) fn read_as(
        context: &mut Context<'_>,
        node: &'n Node,
        field: &Field,
        known: &'static [&'static str],
        expected: Expected,
    ) -> Option<Self> {
        let entries = unique(context, node, field, expected)?;
        let mut section = Self { at: node.at, field: field.clone(), entries: BTreeMap::new() };
        for (key, key_at, value) in entries {
            if known.contains(&key) {
                section.entries.insert(key, value);
            } else {
                let suggestion = suggestion(key, known);
                let error = KeyError::Unknown { suggestion, known };
                context.error::<()>(key_at, &field.key(key), error);
            }
        }
        Some(section)
    }

    /// The value of a key, and its field.
    pub(super) fn get(&self, key: &str) -> Option<(&'n Node, Field)> {
        self.entries.get(key).map(|node| (*node, self.field.key(key)))
    }

    /// The value of a key, read; `None` too when the reader noted an error.
    pub(super) fn value<T>(
        &self,
        context: &mut Context<'_>,
        key: &str,
        read: impl FnOnce(&mut Context<'_>, &'n Node, &Field) -> Option<T>,
    ) -> Option<T> {
        let (node, field) = self.get(key)?;
        read(context, node, &field)
    }

    /// Notes when two keys that exclude each other are both there.
    pub(super) fn exclusive(
        &self,
        context: &mut Context<'_>,
        key: &'static str,
        other: &'static str,
    ) {
        if let (Some((node, field)), Some(_)) = (self.get(key), self.get(other)) {
            context.error::<()>(node.at, &field, KeyError::Both { key, other });
        }
    }
}

/// The entries of a mapping of free keys, each key once.
pub(super) fn unique<'n>(
    context: &mut Context<'_>,
    node: &'n Node,
    field: &Field,
    expected: Expected,
) -> Option<Vec<(&'n str, Position, &'n Node)>> {
    let Content::Mapping(entries) = &node.content else {
        return context.wrong(node, field, expected);
    };
    let mut first_lines: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(first_line) = first_lines.get(&*entry.key) {
            let error = KeyError::Twice { first_line: *first_line };
            context.error::<()>(entry.key_at, &field.key(&entry.key), error);
        } else {
            first_lines.insert(&entry.key, entry.key_at.line);
            kept.push((&*entry.key, entry.key_at, &entry.value));
        }
    }
    Some(kept)
}

fn suggestion(key: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let other = OTHER_WORDS.iter().find(|(word, _)| *word == key).map(|(_, ours)| *ours);
    other.filter(|ours| known.contains(ours)).or_else(|| nearest(&key, known.iter().copied()))
}

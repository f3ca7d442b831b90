//! YAML as a tree that keeps what the readers need to explain themselves: the place of every key
//! and value, keys that stand twice, and scalars as they are written (`1.10` stays `1.10`).

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::Position;
use crate::{Found, SyntaxError, field::Field, problem::escaped};

/// Room for ten thousand services and more.
const MAX_BYTES: usize = 8 << 20;
const MAX_DEPTH: usize = 32;
/// What aliases may add: a few lines of them could ask for more memory than there is.
const MAX_COPIED: usize = 4 << 20;

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where messages point: a scalar itself, the key of anything else.
    pub(super) at: Position,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Position,
    pub(super) value: Node,
}

impl Node {
    /// What an error calls it.
    pub(super) fn found(&self) -> Found {
        match &self.content {
            Content::Null => Found::Nothing,
            Content::Scalar(text) => Found::Scalar(text.clone()),
            Content::List(_) => Found::List,
            Content::Mapping(_) => Found::Mapping,
        }
    }

    /// The nodes directly within, with their fields.
    pub(super) fn children(&self, field: &Field) -> Vec<(Field, &Self)> {
        match &self.content {
            Content::Null | Content::Scalar(_) => Vec::new(),
            Content::List(items) => {
                items.iter().enumerate().map(|(index, node)| (field.index(index), node)).collect()
            }
            Content::Mapping(entries) => {
                entries.iter().map(|entry| (field.key(&entry.key), &entry.value)).collect()
            }
        }
    }

    /// Bytes, about, that it would take to write it out.
    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Null => 0,
            Content::Scalar(text) => text.len(),
            Content::List(items) => items.iter().map(Self::size).sum(),
            Content::Mapping(entries) => {
                entries.iter().map(|entry| entry.key.len() + entry.value.size()).sum()
            }
        }
    }

    fn depth(&self) -> usize {
        let below = match &self.content {
            Content::Null | Content::Scalar(_) => None,
            Content::List(items) => items.iter().map(Self::depth).max(),
            Content::Mapping(entries) => entries.iter().map(|entry| entry.value.depth()).max(),
        };
        1 + below.unwrap_or(0)
    }
}

/// Why there is no tree.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Position,
    pub(super) problem: SyntaxError,
}

impl From<ScanError> for Fault {
    fn from(error: ScanError) -> Self {
        let at = Position { line: error.marker().line().max(1), column: error.marker().col() + 1 };
        Self { at, problem: SyntaxError::Yaml(escaped(error.info())) }
    }
}

/// Reads one document.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    if text.len() > MAX_BYTES {
        let problem = SyntaxError::TooLarge { bytes: text.len(), limit: MAX_BYTES };
        return Err(Fault { at: Position::default(), problem });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new(StrInput::new(text));
    let mut builder = Builder::default();
    while let Some(event) = parser.next_event() {
        let (event, span) = event?;
        builder.take(event, span)?;
    }
    let empty = Fault { at: Position::default(), problem: SyntaxError::Empty };
    builder.root.filter(|root| !matches!(root.content, Content::Null)).ok_or(empty)
}

/// A collection that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<(String, Position)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    copied: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = Position { line: span.start.line().max(1), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(Fault { at, problem: SyntaxError::SecondDocument });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = known_tag(tag.as_deref(), at)?;
                let node = Node { at, content: scalar(&text, style, tag) };
                self.value(node, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(at, Content::List(Vec::new()), anchor, tag.as_deref())?;
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(at, Content::Mapping(Vec::new()), anchor, tag.as_deref())?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, anchor, .. }) = self.open.pop() {
                    self.value(merged(node)?, anchor)?;
                }
            }
            Event::Alias(anchor) => {
                // An alias within its own anchor is not there yet: it stands for nothing.
                let target = self.anchors.get(&anchor).map(|node| node.content.clone());
                let node = Node { at, content: target.unwrap_or(Content::Null) };
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(Fault { at, problem: SyntaxError::TooDeep(MAX_DEPTH) });
                }
                self.copied += node.size();
                if self.copied > MAX_COPIED {
                    return Err(Fault { at, problem: SyntaxError::TooMuch(MAX_COPIED) });
                }
                self.value(node, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        at: Position,
        content: Content,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Fault> {
        known_tag(tag, at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault { at, problem: SyntaxError::TooDeep(MAX_DEPTH) });
        }
        self.open.push(Open { node: Node { at, content }, anchor, key: None });
        Ok(())
    }

    /// Puts a finished node where it belongs: into a list, as a key, or as the value of one.
    fn value(&mut self, mut node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.content, open.key.take()) {
            (Content::List(items), _) => items.push(node),
            (Content::Mapping(entries), Some((key, key_at))) => {
                if !matches!(node.content, Content::Scalar(_)) {
                    node.at = key_at;
                }
                entries.push(Entry { key, key_at, value: node });
            }
            (_, _) => open.key = Some(key_of(node)?),
        }
        Ok(())
    }
}

fn key_of(node: Node) -> Result<(String, Position), Fault> {
    match node.content {
        Content::Scalar(text) => Ok((text, node.at)),
        _ => Err(Fault { at: node.at, problem: SyntaxError::KeyKind(node.found()) }),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Content {
    let null = matches!(text, "" | "~" | "null" | "Null" | "NULL");
    if null && style == ScalarStyle::Plain && tag != Some("str") {
        Content::Null
    } else {
        Content::Scalar(text.to_owned())
    }
}

/// Types of YAML's core schema say nothing that the field does not say itself; any other tag
/// would be lost.
fn known_tag(tag: Option<&Tag>, at: Position) -> Result<Option<&str>, Fault> {
    match tag {
        None => Ok(None),
        Some(tag)
            if tag.is_yaml_core_schema()
                && ["str", "int", "float", "bool", "null", "seq", "map"]
                    .contains(&&*tag.suffix) =>
        {
            Ok(Some(&tag.suffix))
        }
        Some(tag) => Err(Fault { at, problem: SyntaxError::Tag(tag.suffix.clone()) }),
    }
}

/// Replaces `<<: *alias` by the alias's entries; the mapping's own win, then earlier aliases.
fn merged(mut node: Node) -> Result<Node, Fault> {
    let Content::Mapping(entries) = &mut node.content else { return Ok(node) };
    if !entries.iter().any(|entry| entry.key == "<<") {
        return Ok(node);
    }
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|entry| entry.key == "<<");
    let mut keys: BTreeSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
    for Entry { key_at, value, .. } in merges {
        let sources = match value.content {
            Content::List(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Content::Mapping(defaults) = source.content else {
                return Err(Fault { at: key_at, problem: SyntaxError::Merge });
            };
            for entry in defaults {
                if keys.insert(entry.key.clone()) {
                    own.push(entry);
                }
            }
        }
    }
    *entries = own;
    Ok(node)
}

//! Environment and labels: mappings or `KEY=VALUE` lists, and files of them.

use std::collections::BTreeMap;

use super::{
    context::Context,
    section::{Section, unique},
    tree::{Content, Node},
    values::{text, texts},
};
use crate::{EnvFileError, Expected, KeyError, ValueError, field::Field};

type Pairs = BTreeMap<String, String>;

/// `env` over `env_file`; of the files, later over earlier.
pub(super) fn environment(context: &mut Context<'_>, section: &Section<'_>) -> Pairs {
    let mut all = section.value(context, "env_file", files).unwrap_or_default();
    let own = section.value(context, "env", |context, node, field| {
        pairs(context, node, field, &|context, name| context.variable(name))
    });
    all.extend(own.unwrap_or_default());
    all
}

/// Labels: words without a value are empty.
pub(super) fn labels(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Pairs> {
    pairs(context, node, field, &|_, _| Some(String::new()))
}

/// `absent` gives the value of a key that stands alone; `None` leaves the key out.
fn pairs(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    absent: &dyn Fn(&Context<'_>, &str) -> Option<String>,
) -> Option<Pairs> {
    let mut pairs = Pairs::new();
    match &node.content {
        Content::Mapping(_) => {
            for (key, _, value) in unique(context, node, field, Expected::Pairs)? {
                let value = match value.content {
                    Content::Null => absent(context, key),
                    _ => text(context, value, &field.key(key)),
                };
                pairs.extend(value.map(|value| (key.to_owned(), value)));
            }
        }
        Content::List(_) => {
            let mut first_lines = BTreeMap::new();
            for (at, field, item) in texts(context, node, field)? {
                let (key, value) = match item.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (&*item, absent(context, &item)),
                };
                if key.is_empty() {
                    let error = ValueError::new(&item, Expected::Pair);
                    context.error::<()>(at, &field, error);
                } else if let Some(first_line) = first_lines.insert(key.to_owned(), at.line) {
                    context.error::<()>(at, &field, KeyError::Twice { first_line });
                } else {
                    pairs.extend(value.map(|value| (key.to_owned(), value)));
                }
            }
        }
        _ => return context.wrong(node, field, Expected::Pairs),
    }
    Some(pairs)
}

fn files(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Pairs> {
    let mut all = Pairs::new();
    for (at, field, name) in texts(context, node, field)? {
        let path = context.resolve(&name);
        let read = context.read(&path).map_err(|error| EnvFileError::Unreadable {
            path: path.clone(),
            error: error.to_string(),
        });
        let Some(content) = context.take(at, &field, read) else { continue };
        for (index, line) in content.lines().enumerate() {
            match pair(line) {
                Line::Pair(key, value) => {
                    all.insert(key.to_owned(), value.to_owned());
                }
                Line::Empty => {}
                Line::Wrong => {
                    let error = EnvFileError::Line { path: path.clone(), line: index + 1 };
                    context.error::<()>(at, &field, error);
                }
            }
        }
    }
    Some(all)
}

enum Line<'a> {
    Pair(&'a str, &'a str),
    Empty,
    Wrong,
}

/// A line of an `env_file`. Values are taken as they stand, but for quotes around the whole:
/// nothing is replaced in them, for passwords have dollar signs.
fn pair(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Empty;
    }
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let Some((key, value)) = line.split_once('=') else { return Line::Wrong };
    let (key, value) = (key.trim_end(), value.trim_start());
    if key.is_empty() || key.contains(char::is_whitespace) || value.contains('\0') {
        return Line::Wrong;
    }
    Line::Pair(key, unquoted(value))
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(&str, &str)> {
        match pair(line) {
            Line::Pair(key, value) => Some((key, value)),
            Line::Empty => Some(("", "")),
            Line::Wrong => None,
        }
    }

    #[test]
    fn lines_of_env_files_are_read() {
        for (line, expected) in [
            ("A=1", Some(("A", "1"))),
            ("  A = 1  ", Some(("A", "1"))),
            ("export A=1", Some(("A", "1"))),
            ("A=", Some(("A", ""))),
            ("A=\"b c\"", Some(("A", "b c"))),
            ("A='b c'", Some(("A", "b c"))),
            ("A=\"", Some(("A", "\""))),
            ("A=p$ss=w#rd", Some(("A", "p$ss=w#rd"))),
            ("", Some(("", ""))),
            ("# A=1", Some(("", ""))),
            ("A", None),
            ("=1", None),
            ("A B=1", None),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}

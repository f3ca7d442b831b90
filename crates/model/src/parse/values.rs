//! Readers of single values. Each gives `None` after it has noted what is wrong.

use std::time::Duration;

use super::{
    Position,
    context::Context,
    tree::{Content, Node},
};
use crate::{Command, Expected, ValueError, field::Field, units, words::nearest};

/// Text, with its variables replaced.
pub(super) fn text(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<String> {
    scalar(context, node, field, Expected::Text)
}

/// Text where `expected` belongs.
pub(super) fn scalar(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    expected: Expected,
) -> Option<String> {
    match &node.content {
        Content::Scalar(text) => context.interpolated(node.at, field, text),
        _ => context.wrong(node, field, expected),
    }
}

/// Text that `parse` understands.
fn parsed<T>(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    expected: Expected,
    parse: impl FnOnce(&str) -> Result<T, ValueError>,
) -> Option<T> {
    let text = scalar(context, node, field, expected)?;
    context.take(node.at, field, parse(&text))
}

pub(super) fn duration(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Duration> {
    parsed(context, node, field, Expected::Duration, units::parse_duration)
}

pub(super) fn size(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<u64> {
    parsed(context, node, field, Expected::Size, units::parse_size)
}

pub(super) fn cpu(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<u32> {
    parsed(context, node, field, Expected::Cpu, units::parse_cpu)
}

pub(super) fn boolean(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<bool> {
    parsed(context, node, field, Expected::Boolean, |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ValueError::new(text, Expected::Boolean)),
    })
}

/// A whole number of `least` to `most`, in decimal digits.
pub(super) fn whole<T: TryFrom<u64>>(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    (least, most): (u64, u64),
) -> Option<T> {
    let expected = Expected::Whole { least, most };
    parsed(context, node, field, expected, |text| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|n| digits && (least..=most).contains(n));
        number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| ValueError::new(text, expected))
    })
}

/// One of some words, with what each means.
pub(super) fn word<T: Copy>(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    words: &'static [&'static str],
    meanings: &[T],
) -> Option<T> {
    let expected = Expected::Word(words);
    parsed(context, node, field, expected, |text| {
        let found = words.iter().zip(meanings).find(|(word, _)| **word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| ValueError {
            suggestion: nearest(text, words.iter().copied()),
            ..ValueError::new(text, expected)
        })
    })
}

/// Text, or a list of it; each with its place.
pub(super) fn texts(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
) -> Option<Vec<(Position, Field, String)>> {
    match &node.content {
        Content::Scalar(_) => Some(vec![(node.at, field.clone(), text(context, node, field)?)]),
        Content::List(_) => Some(
            node.children(field)
                .into_iter()
                .filter_map(|(field, item)| {
                    text(context, item, &field).map(|text| (item.at, field, text))
                })
                .collect(),
        ),
        _ => context.wrong(node, field, Expected::Texts),
    }
}

/// A line for the shell, or program and arguments.
pub(super) fn command(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Command> {
    match &node.content {
        Content::Scalar(_) => text(context, node, field).map(Command::Shell),
        Content::List(items) => {
            let words = texts(context, node, field)?;
            // A word that was not read is noted; the others alone would be another command.
            (words.len() == items.len())
                .then(|| Command::Argv(words.into_iter().map(|(_, _, word)| word).collect()))
        }
        _ => context.wrong(node, field, Expected::Command),
    }
}

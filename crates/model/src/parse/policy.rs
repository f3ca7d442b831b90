//! What a service may use, how it restarts and stops, how it is balanced and when it is ejected.

use std::time::Duration;

use super::{
    context::Context,
    env,
    section::Section,
    tree::{Content, Node},
    values::{boolean, cpu, duration, size, text, texts, whole, word},
};
use crate::{
    Balance, KeyError, Limits, Outlier, Placement, Privileges, Restart, Stop, field::Field, words,
};

const POLICIES: &[&str] = &["least-load", "round-robin", "random", "source"];
const RESTARTS: &[&str] = &["always", "on-failure", "never"];
const FAILURES: (u64, u64) = (0, 1000);

pub(super) fn limits(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Limits> {
    let section = Section::read(context, node, field, &["memory", "cpu", "pids"])?;
    Some(Limits {
        memory_bytes: section.value(context, "memory", size),
        cpu_millis: section.value(context, "cpu", cpu),
        pids: section.value(context, "pids", |context, node, field| {
            whole(context, node, field, (1, 4_194_304))
        }),
    })
}

pub(super) fn restart(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Restart> {
    let meanings = [Restart::Always, Restart::OnFailure, Restart::Never];
    word(context, node, field, RESTARTS, &meanings)
}

pub(super) fn stop(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Stop> {
    let section = Section::read(context, node, field, &["signal", "grace"])?;
    let default = Stop::default();
    let signal = section.value(context, "signal", text).map(|text| words::spell_signal(&text));
    let grace = section.value(context, "grace", duration);
    Some(Stop { signal: signal.unwrap_or(default.signal), grace: grace.unwrap_or(default.grace) })
}

/// Which hosts will do.
pub(super) fn placement(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
) -> Option<Placement> {
    let section = Section::read(context, node, field, &["labels"])?;
    let labels = section.value(context, "labels", env::labels);
    Some(Placement { labels: labels.unwrap_or_default() })
}

/// A policy, or `{policy, timeout}`.
pub(super) fn balance(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Balance> {
    let Content::Mapping(_) = node.content else {
        return policy(context, node, field, Balance::SOURCE_TIMEOUT);
    };
    let section = Section::read(context, node, field, &["policy", "timeout"])?;
    let timeout = section.value(context, "timeout", duration);
    let Some((node, policy_field)) = section.get("policy") else {
        let missing = KeyError::Missing { key: "policy", example: "policy: source" };
        return context.error(section.at, field, missing);
    };
    let balance = policy(context, node, &policy_field, timeout.unwrap_or(Balance::SOURCE_TIMEOUT))?;
    match (balance, section.get("timeout")) {
        (Balance::Source { .. }, _) | (_, None) => Some(balance),
        // Only what remembers a source forgets it.
        (_, Some((node, field))) => {
            let known = &["policy"];
            context.error(node.at, &field, KeyError::Unknown { suggestion: None, known })
        }
    }
}

fn policy(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    timeout: Duration,
) -> Option<Balance> {
    let meanings =
        [Balance::LeastLoad, Balance::RoundRobin, Balance::Random, Balance::Source { timeout }];
    word(context, node, field, POLICIES, &meanings)
}

pub(super) fn outlier(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Outlier> {
    let keys = &["consecutive_failures", "base", "max", "max_ejected_percent"];
    let section = Section::read(context, node, field, keys)?;
    let default = Outlier::default();
    let failures = section.value(context, "consecutive_failures", |context, node, field| {
        whole(context, node, field, FAILURES)
    });
    let percent = section.value(context, "max_ejected_percent", |context, node, field| {
        whole(context, node, field, (0, 100))
    });
    Some(Outlier {
        consecutive_failures: failures.unwrap_or(default.consecutive_failures),
        base: section.value(context, "base", duration).unwrap_or(default.base),
        max: section.value(context, "max", duration).unwrap_or(default.max),
        max_ejected_percent: percent.unwrap_or(default.max_ejected_percent),
    })
}

pub(super) fn privileges(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
) -> Option<Privileges> {
    let section = Section::read(context, node, field, &["keep_capabilities", "no_new_privileges"])?;
    let kept = section.value(context, "keep_capabilities", texts).unwrap_or_default();
    Some(Privileges {
        keep_capabilities: kept.iter().map(|(_, _, text)| words::spell_capability(text)).collect(),
        no_new_privileges: section.value(context, "no_new_privileges", boolean).unwrap_or(true),
    })
}

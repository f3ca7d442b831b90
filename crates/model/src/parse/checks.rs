//! How a service is found healthy.

use super::{
    context::Context,
    ports::Ports,
    section::Section,
    tree::{Content, Node},
    values::{command, duration, scalar, text, whole},
};
use crate::{Check, Expected, Health, KeyError, ValueError, field::Field, words::nearest};

const KEYS: &[&str] = &[
    "tcp",
    "http",
    "exec",
    "interval",
    "timeout",
    "healthy_threshold",
    "unhealthy_threshold",
    "start_period",
];
const HTTP_KEYS: &[&str] = &["port", "path"];
const THRESHOLD: (u64, u64) = (1, 1000);

pub(super) fn health(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    ports: &Ports,
) -> Option<Health> {
    if let Content::Scalar(_) = node.content {
        let check = named_check(context, node, field, ports)?;
        return Some(Health { check, ..Health::default() });
    }
    let section = Section::read_as(context, node, field, KEYS, Expected::Health)?;
    let default = Health::default();
    let check = check(context, &section, ports);
    let mut time = |key, default| section.value(context, key, duration).unwrap_or(default);
    let interval = time("interval", default.interval);
    let timeout = time("timeout", default.timeout);
    let start_period = time("start_period", default.start_period);
    let mut count = |key, default| {
        let read = |context: &mut Context<'_>, node: &Node, field: &Field| {
            whole(context, node, field, THRESHOLD)
        };
        section.value(context, key, read).unwrap_or(default)
    };
    let healthy_threshold = count("healthy_threshold", default.healthy_threshold);
    let unhealthy_threshold = count("unhealthy_threshold", default.unhealthy_threshold);
    // A check that was not understood is noted; the times beside it are still worth checking.
    let check = check.unwrap_or(Check::None);
    Some(Health { check, interval, timeout, healthy_threshold, unhealthy_threshold, start_period })
}

/// `none` or `tcp`.
fn named_check(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    ports: &Ports,
) -> Option<Check> {
    match &*scalar(context, node, field, Expected::Health)? {
        "none" => Some(Check::None),
        "tcp" => ports.first_tcp(context, node.at, field).map(|port| Check::Tcp { port }),
        other => {
            let suggestion = nearest(other, ["none", "tcp"]);
            let error = ValueError { suggestion, ..ValueError::new(other, Expected::Health) };
            context.error(node.at, field, error)
        }
    }
}

/// Exactly one of `tcp`, `http` and `exec`.
fn check(context: &mut Context<'_>, section: &Section<'_>, ports: &Ports) -> Option<Check> {
    section.exclusive(context, "http", "tcp");
    section.exclusive(context, "exec", "tcp");
    section.exclusive(context, "exec", "http");
    if let Some((node, field)) = section.get("tcp") {
        return tcp(context, node, &field, ports).map(|port| Check::Tcp { port });
    }
    if let Some((node, field)) = section.get("http") {
        return http(context, node, &field, ports);
    }
    if let Some((node, field)) = section.get("exec") {
        return command(context, node, &field).map(|command| Check::Exec { command });
    }
    let missing = KeyError::Missing { key: "tcp, http or exec", example: "tcp: true" };
    context.error(section.at, &section.field, missing)
}

/// `true` for the first TCP port, or its name or number.
fn tcp(context: &mut Context<'_>, node: &Node, field: &Field, ports: &Ports) -> Option<u16> {
    match &*scalar(context, node, field, Expected::PortReference)? {
        "true" => ports.first_tcp(context, node.at, field),
        text => ports.tcp(context, node.at, field, text),
    }
}

/// A path, or `{port, path}`.
fn http(context: &mut Context<'_>, node: &Node, field: &Field, ports: &Ports) -> Option<Check> {
    let Content::Mapping(_) = node.content else {
        let path = text(context, node, field)?;
        let port = ports.first_tcp(context, node.at, field)?;
        return Some(Check::Http { port, path });
    };
    let section = Section::read(context, node, field, HTTP_KEYS)?;
    let path = match section.get("path") {
        Some((node, field)) => text(context, node, &field)?,
        None => "/".to_owned(),
    };
    let port = match section.get("port") {
        Some((node, field)) => {
            let text = scalar(context, node, &field, Expected::PortReference)?;
            ports.tcp(context, node.at, &field, &text)?
        }
        None => ports.first_tcp(context, node.at, field)?,
    };
    Some(Check::Http { port, path })
}

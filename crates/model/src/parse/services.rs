//! The file as a whole, and one service of it.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Position, checks,
    context::Context,
    env, policy, ports,
    section::{Section, unique},
    tree::{Content, Node},
    values::{command, text, texts, whole},
};
use crate::{
    Expected, KeyError, MAX_REPLICAS, Problem, Project, ProjectName, Service, ServiceName,
    field::Field,
};

const TOP: &[&str] = &["name", "services"];
const SERVICE: &[&str] = &[
    "command",
    "port",
    "ports",
    "replicas",
    "env",
    "env_file",
    "working_dir",
    "user",
    "group",
    "limits",
    "health",
    "restart",
    "stop",
    "depends_on",
    "balance",
    "outlier",
    "zone",
    "labels",
    "publish",
    "privileges",
    "placement",
];

/// What can be read of the project; `None` when not even that makes sense.
pub(super) fn project(context: &mut Context<'_>, root: &Node) -> Option<Project> {
    let root = without_extensions(root);
    let section = Section::read_as(context, &root, &Field::root(), TOP, Expected::File)?;
    let name = project_name(context, &section);
    let services = match section.get("services") {
        Some((node, field)) if !matches!(node.content, Content::Null) => {
            services(context, node, &field)
        }
        Some(_) => Some(BTreeMap::new()),
        None => {
            let missing =
                KeyError::Missing { key: "services", example: "services: {api: {command: ./api}}" };
            context.error(section.at, &Field::root(), missing)
        }
    };
    Some(Project { name: name?, services: services? })
}

/// `x-…` keys at the top hold what aliases refer to.
fn without_extensions(root: &Node) -> Node {
    let mut root = root.clone();
    if let Content::Mapping(entries) = &mut root.content {
        entries.retain(|entry| !entry.key.starts_with("x-"));
    }
    root
}

fn project_name(context: &mut Context<'_>, section: &Section<'_>) -> Option<ProjectName> {
    if let Some((node, field)) = section.get("name") {
        let text = text(context, node, &field)?;
        return context.take(node.at, &field, ProjectName::new(text).map_err(Problem::Name));
    }
    let directory = context.directory().file_name().unwrap_or_default().to_string_lossy();
    let name = ProjectName::from_directory(&directory);
    let missing = KeyError::Missing { key: "name", example: "name: shop" };
    context.take(section.at, &Field::root(), name.map_err(|_| missing))
}

fn services(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
) -> Option<BTreeMap<ServiceName, Service>> {
    let mut services = BTreeMap::new();
    for (key, key_at, node) in unique(context, node, field, Expected::Services)? {
        let field = field.key(key);
        let name = context.take(key_at, &field, ServiceName::new(key).map_err(Problem::Name));
        let service = service(context, node, &field);
        services.extend(name.zip(service));
    }
    Some(services)
}

/// A service; keys with faults count as not given.
fn service(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Service> {
    let section = Section::read_as(context, node, field, SERVICE, Expected::Service)?;
    let command = match section.get("command") {
        Some((node, field)) => command(context, node, &field),
        None => {
            let missing = KeyError::Missing { key: "command", example: "command: ./server" };
            context.error(section.at, field, missing)
        }
    };
    let working_dir = working_dir(context, &section);
    // A service without a command is read on, so that its other faults are told too.
    let command = command.unwrap_or_else(|| crate::Command::Shell("true".to_owned()));
    let mut service = Service::new(command, working_dir);
    instances(context, &section, &mut service);
    network(context, &section, &mut service);
    policies(context, &section, &mut service);
    Some(service)
}

fn working_dir(context: &mut Context<'_>, section: &Section<'_>) -> PathBuf {
    let path = section.value(context, "working_dir", text);
    context.resolve(&path.unwrap_or_default())
}

/// What is run, as whom, and how often.
fn instances(context: &mut Context<'_>, section: &Section<'_>, service: &mut Service) {
    let most = u64::from(MAX_REPLICAS);
    let replicas = section
        .value(context, "replicas", |context, node, field| whole(context, node, field, (0, most)));
    service.replicas = replicas.unwrap_or(service.replicas);
    service.env = env::environment(context, section);
    service.user = section.value(context, "user", text);
    service.group = section.value(context, "group", text);
    service.labels = section.value(context, "labels", env::labels).unwrap_or_default();
    service.zone = section.value(context, "zone", text);
    service.placement = section.value(context, "placement", policy::placement).unwrap_or_default();
    let needed = section.value(context, "depends_on", texts).unwrap_or_default();
    service.depends_on = needed.into_iter().filter_map(|item| dependency(context, item)).collect();
}

fn dependency(
    context: &mut Context<'_>,
    (at, field, text): (Position, Field, String),
) -> Option<ServiceName> {
    context.take(at, &field, ServiceName::new(text).map_err(Problem::Name))
}

fn network(context: &mut Context<'_>, section: &Section<'_>, service: &mut Service) {
    let known = ports::ports(context, section);
    let health = section.value(context, "health", |context, node, field| {
        checks::health(context, node, field, &known)
    });
    let publish = section.value(context, "publish", |context, node, field| {
        ports::publish(context, node, field, &known.list)
    });
    service.health = health.unwrap_or_default();
    service.publish = publish.unwrap_or_default();
    service.ports = known.list;
}

fn policies(context: &mut Context<'_>, section: &Section<'_>, service: &mut Service) {
    service.limits = section.value(context, "limits", policy::limits).unwrap_or_default();
    service.restart = section.value(context, "restart", policy::restart).unwrap_or_default();
    service.stop = section.value(context, "stop", policy::stop).unwrap_or_default();
    service.balance = section.value(context, "balance", policy::balance).unwrap_or_default();
    service.outlier = section.value(context, "outlier", policy::outlier).unwrap_or_default();
    service.privileges =
        section.value(context, "privileges", policy::privileges).unwrap_or_default();
}

//! The policy file: who may do more than others.

use std::{collections::BTreeSet, path::Path};

use super::{
    ParseError, ParseErrors, Position,
    context::Context,
    section::Section,
    tree::{self, Content, Node},
    values::{boolean, text, texts, whole},
};
use crate::{
    Allowed, Expected, Grant, Grantee, KeyError, Policy, Problem, ProjectName, Rule, SyntaxError,
    field::Field, validate::is_account, words,
};

const TOP: &[&str] = &["rules"];
const RULE: &[&str] = &[
    "user",
    "group",
    "run_as",
    "run_as_group",
    "adopt",
    "publish_below_1024",
    "change",
    "keep_capabilities",
    "new_privileges",
    "shutdown",
];
const NO_RULES: KeyError =
    KeyError::Missing { key: "rules", example: "rules: [{user: alice, run_as: [www-data]}]" };
const PORTS: (u64, u64) = (1, 1023);

/// Reads a policy from the text of `file`.
///
/// # Errors
/// With everything that is wrong with the file, in the order of its lines.
pub fn parse_policy(text: &str, file: &Path) -> Result<Policy, ParseErrors> {
    let root = tree::read(text).map_err(|fault| {
        let problem = match fault.problem {
            SyntaxError::Empty => NO_RULES.into(),
            problem => Problem::from(problem),
        };
        ParseErrors::new(file, vec![ParseError::new(fault.at, &Field::root(), problem)])
    })?;
    // It names no file and knows no variables: what root allows hangs on nothing else.
    let mut no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let mut context = Context::new(Path::new("/"), &mut no_files, &|_| None);
    let policy = policy(&mut context, &root);
    let errors = context.into_errors();
    match policy {
        Some(policy) if errors.is_empty() => Ok(policy),
        _ => Err(ParseErrors::new(file, errors)),
    }
}

fn policy(context: &mut Context<'_>, root: &Node) -> Option<Policy> {
    let section = Section::read_as(context, root, &Field::root(), TOP, Expected::Policy)?;
    let Some((node, field)) = section.get("rules") else {
        return context.error(section.at, &section.field, NO_RULES);
    };
    let Content::List(_) = node.content else {
        return context.wrong(node, &field, Expected::Rules);
    };
    let rules = node.children(&field).into_iter();
    Some(Policy { rules: rules.filter_map(|(field, node)| rule(context, node, &field)).collect() })
}

fn rule(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Grant> {
    let section = Section::read(context, node, field, RULE)?;
    let to = grantee(context, &section);
    // What a rule allows is read without knowing to whom, so that its other faults are told too.
    let mut grant = Grant::new(to.clone().unwrap_or(Grantee::User(String::new())));
    grant.run_as = section.value(context, "run_as", accounts).unwrap_or_default();
    grant.run_as_group = section.value(context, "run_as_group", accounts).unwrap_or_default();
    grant.adopt = section.value(context, "adopt", accounts).unwrap_or_default();
    grant.publish_below_1024 =
        section.value(context, "publish_below_1024", ports).unwrap_or_default();
    grant.change = section.value(context, "change", projects).unwrap_or_default();
    grant.keep_capabilities =
        section.value(context, "keep_capabilities", capabilities).unwrap_or_default();
    grant.new_privileges = section.value(context, "new_privileges", boolean).unwrap_or_default();
    grant.shutdown = section.value(context, "shutdown", boolean).unwrap_or_default();
    to.map(|_| grant)
}

/// Exactly one of `user` and `group`.
fn grantee(context: &mut Context<'_>, section: &Section<'_>) -> Option<Grantee> {
    section.exclusive(context, "group", "user");
    let (key, grantee) = match (section.get("user"), section.get("group")) {
        (Some(_), _) => ("user", Grantee::User as fn(String) -> Grantee),
        (None, Some(_)) => ("group", Grantee::Group as fn(String) -> Grantee),
        (None, None) => {
            let missing = KeyError::Missing { key: "user or group", example: "user: alice" };
            return context.error(section.at, &section.field, missing);
        }
    };
    let (node, field) = section.get(key)?;
    let name = text(context, node, &field)?;
    account(context, (node.at, &field), &name).map(|()| grantee(name))
}

fn account(context: &mut Context<'_>, (at, field): (Position, &Field), name: &str) -> Option<()> {
    if is_account(name) && name != "*" {
        return Some(());
    }
    context.error(at, field, Rule::Account(name.to_owned()))
}

/// Names, each as `check` wants it, with `*` for all.
fn allowed(
    context: &mut Context<'_>,
    node: &Node,
    field: &Field,
    check: impl Fn(&mut Context<'_>, (Position, &Field), &str) -> Option<()>,
) -> Option<Allowed<String>> {
    let mut allowed = Allowed::default();
    for (at, field, name) in texts(context, node, field)? {
        if name == "*" {
            allowed.all = true;
        } else if check(context, (at, &field), &name).is_some() {
            allowed.named.insert(name);
        }
    }
    Some(allowed)
}

fn accounts(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Allowed<String>> {
    allowed(context, node, field, account)
}

fn projects(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Allowed<String>> {
    allowed(context, node, field, |context, (at, field), name| {
        let name = ProjectName::new(name).map_err(Problem::Name);
        context.take(at, field, name).map(drop)
    })
}

fn capabilities(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Allowed<String>> {
    let mut named = BTreeSet::new();
    for (at, field, text) in texts(context, node, field)? {
        let name = words::spell_capability(&text);
        if words::CAPABILITIES.contains(&&*name) {
            named.insert(name);
        } else {
            let suggestion = words::nearest_capability(&text);
            context.error::<()>(at, &field, Rule::Capability { value: text, suggestion });
        }
    }
    Some(Allowed { all: false, named })
}

/// `true`, or a port, or a list of them.
fn ports(context: &mut Context<'_>, node: &Node, field: &Field) -> Option<Allowed<u16>> {
    let items = match &node.content {
        Content::List(_) => node.children(field),
        Content::Scalar(text) if matches!(&**text, "true" | "false") => {
            return Some(Allowed { all: text == "true", named: BTreeSet::new() });
        }
        Content::Scalar(_) => vec![(field.clone(), node)],
        Content::Null | Content::Mapping(_) => {
            return context.wrong(node, field, Expected::LowPorts);
        }
    };
    let read = |(field, node): (Field, &Node)| whole(context, node, &field, PORTS);
    Some(Allowed { all: false, named: items.into_iter().filter_map(read).collect() })
}

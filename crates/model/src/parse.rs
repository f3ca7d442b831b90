//! From a file to a project. Every fault of the file is found in one go: readers note what is
//! wrong and go on, so that one run shows all there is to mend.

use std::{collections::BTreeMap, io, path::Path};

use crate::{Problem, Project, Rule, field::Field, validate};

pub use errors::{ParseError, ParseErrors, Position};
pub use grants::parse_policy;

use context::Context;
use tree::Node;

mod checks;
mod context;
mod env;
mod errors;
mod grants;
mod interpolate;
mod policy;
mod ports;
mod render;
mod section;
mod services;
mod tree;
mod values;

/// Where a file came from.
#[derive(Clone, Copy, Debug)]
pub struct FileSource<'a> {
    /// As messages name it.
    pub path: &'a Path,
    /// What paths in it are relative to; absolute. Its last part names a project without `name:`.
    pub directory: &'a Path,
}

/// Reads a project from the text of a file. `env_files` reads a file that the text names,
/// `variables` looks a variable of `${…}` up.
///
/// # Errors
/// With everything that is wrong with the file, in the order of its lines.
pub fn parse(
    text: &str,
    source: &FileSource<'_>,
    env_files: &mut dyn FnMut(&Path) -> io::Result<String>,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<Project, ParseErrors> {
    let file = source.path;
    let root = tree::read(text).map_err(|fault| {
        let error = ParseError::new(fault.at, &Field::root(), fault.problem.into());
        ParseErrors::new(file, vec![error])
    })?;
    let mut context = Context::new(source.directory, env_files, variables);
    let project = services::project(&mut context, &root);
    let mut errors = context.into_errors();
    if let Some(project) = &project {
        let broken = broken_rules(project, &root, &errors);
        errors.extend(broken);
    }
    match project {
        Some(project) if errors.is_empty() => Ok(project),
        _ => Err(ParseErrors::new(file, errors)),
    }
}

/// The rules that what could be read breaks, without those that only follow from a fault that is
/// told already.
fn broken_rules(project: &Project, root: &Node, told: &[ParseError]) -> Vec<ParseError> {
    let places = places(root);
    let told: Vec<&Field> = told.iter().map(|error| &error.path).collect();
    validate::check(project)
        .into_iter()
        .filter(|(field, rule)| !follows(field, rule, &told))
        .map(|(field, rule)| ParseError::new(place(&places, &field), &field, Problem::Rule(rule)))
        .collect()
}

fn follows(field: &Field, rule: &Rule, told: &[&Field]) -> bool {
    let services = Field::root().key("services");
    let within = |what: &Field| told.iter().any(|told| told.is_within(what));
    match rule {
        Rule::NoServices => within(&services) || told.iter().any(|told| services.is_within(told)),
        Rule::NoSuchService { name, .. } => within(&services.key(name)),
        // Ports stand beside what names them: `services.NAME.ports`.
        Rule::NoSuchPort { .. } => {
            let owner = std::iter::successors(field.parent(), Field::parent)
                .find(|field| field.parent().as_ref() == Some(&services));
            owner.is_some_and(|owner| within(&owner.key("ports")) || within(&owner.key("port")))
        }
        _ => told.contains(&field),
    }
}

/// Position of every field of the tree.
fn places(root: &Node) -> BTreeMap<String, Position> {
    let mut places = BTreeMap::new();
    let mut rest = vec![(Field::root(), root)];
    while let Some((field, node)) = rest.pop() {
        rest.extend(node.children(&field));
        let field = String::from(field);
        // A lone `port` is the first of `ports` to the rules.
        if let Some(service) = field.strip_suffix(".port") {
            places.insert(format!("{service}.ports"), node.at);
        }
        places.insert(field, node.at);
    }
    places
}

/// Position of a field, or of the nearest one around it that the file has.
fn place(places: &BTreeMap<String, Position>, field: &Field) -> Position {
    std::iter::successors(Some(field.clone()), Field::parent)
        .find_map(|field| places.get(&field.to_string()))
        .or_else(|| places.get(""))
        .copied()
        .unwrap_or_default()
}

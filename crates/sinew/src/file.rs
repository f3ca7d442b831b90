//! Reads a project from a file.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use sinew_model::{FileSource, Project};

use crate::error::Error;

/// The project that `path` describes; `-` is standard input, read as a file of this directory.
pub(crate) fn read(path: &Path) -> Result<Project, Error> {
    let failed = |source| Error::ReadFile { path: path.to_owned(), source };
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        text
    } else {
        fs::read_to_string(path).map_err(failed)?
    };
    let directory = directory_of(path).map_err(failed)?;
    let source = FileSource { path, directory: &directory };
    let variable = |name: &str| std::env::var(name).ok();
    sinew_model::parse(&text, &source, &mut |path| fs::read_to_string(path), &variable)
        .map_err(|errors| Error::BadFile(Box::new(errors)))
}

/// What relative paths in the file are relative to.
fn directory_of(path: &Path) -> std::io::Result<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::canonicalize(parent.unwrap_or(Path::new(".")))
}

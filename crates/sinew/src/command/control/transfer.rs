//! `sinew control export` and `sinew control import`.

use std::{
    io,
    path::{Path, PathBuf},
};

use sinew_control::store::transfer::{self, Import};
use tokio::{
    fs::{self, File},
    io::{AsyncBufRead, AsyncWrite, AsyncWriteExt as _, BufReader},
};

use super::{failed, store};
use crate::{args::StoreAt, context::Context, error::Error};

/// From the replica that runs here, unless a store is named.
pub(super) async fn export(file: &Path, at: &StoreAt, context: &Context) -> Result<(), Error> {
    let mut target = Target::open(file).await?;
    if at.is_named() {
        let store = store::reach(at).await?;
        transfer::export(&*store, &mut target.writer).await.map_err(failed)?;
    } else {
        copy(context, &mut target).await?;
    }
    target.finish().await
}

async fn copy(context: &Context, target: &mut Target) -> Result<(), Error> {
    let mut export = context.control().await?.export().await?;
    let mut last = Vec::new();
    while let Some(bytes) = export.next().await? {
        target.writer.write_all(&bytes).await.map_err(target.failed())?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        match line.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => last = line[at + 1..].to_vec(),
            None if last.ends_with(b"\n") => last = line.to_vec(),
            None => last.extend(line),
        }
        if bytes.ends_with(b"\n") {
            last.push(b'\n');
        }
    }
    if last.starts_with(b"{\"end\"") {
        return Ok(());
    }
    Err(failed(
        "the export is not whole: control could not read all of its store; its log says why",
    ))
}

pub(super) async fn import(
    file: &Path,
    at: &StoreAt,
    replace: bool,
    context: &Context,
) -> Result<(), Error> {
    let mut input: Box<dyn AsyncBufRead + Send + Unpin> = if file == Path::new("-") {
        Box::new(BufReader::new(tokio::io::stdin()))
    } else {
        let open = File::open(file).await;
        let open = open.map_err(|source| Error::ReadFile { path: file.to_owned(), source })?;
        Box::new(BufReader::new(open))
    };
    let store = store::reach(at).await?;
    let options = Import { replace, ..Import::default() };
    let done = transfer::import(&*store, &mut input, options).await.map_err(failed)?;
    context.print_line(&format!("{} entries are in {at}", done.entries))
}

/// A file that has its name when it is whole, and is its owner's alone: it may hold the root's key.
struct Target {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its present and its last name.
    file: Option<(PathBuf, PathBuf)>,
}

impl Target {
    async fn open(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Ok(Self { writer: Box::new(tokio::io::stdout()), file: None });
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh).await;
        let file = file.map_err(Error::system(format!("write {}", fresh.display())))?;
        Ok(Self { writer: Box::new(file), file: Some((fresh, path.to_owned())) })
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        match &self.file {
            Some((fresh, _)) => Error::system(format!("write {}", fresh.display())),
            None => Error::system("write to standard output".to_owned()),
        }
    }

    async fn finish(mut self) -> Result<(), Error> {
        self.writer.flush().await.map_err(self.failed())?;
        let Some((fresh, path)) = &self.file else { return Ok(()) };
        let failed = || Error::system(format!("write {}", path.display()));
        File::open(fresh).await.map_err(failed())?.sync_all().await.map_err(failed())?;
        fs::rename(fresh, path).await.map_err(failed())
    }
}

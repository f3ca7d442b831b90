//! Into a store.

mod lines;
mod target;

use std::time::Duration;

use tokio::io::AsyncBufRead;

use super::{
    super::{Revision, Store},
    Error, FORMAT, Summary,
    line::{Header, Line},
};
use crate::store::schema;
use lines::Lines;
use target::Target;

/// How an export is taken in.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// Whether what the store has is to go.
    pub replace: bool,
    /// The least that leases live: the time that hosts have to come back to the new store.
    pub least_ttl: Duration,
}

impl Default for Import {
    fn default() -> Self {
        Self { replace: false, least_ttl: Duration::from_secs(60) }
    }
}

/// Takes in an export. While it goes on, and when it was interrupted, the store is marked and
/// [`schema::open`] refuses it; the mark goes with the last transaction. An interrupted import can be
/// repeated, and begins anew.
///
/// # Errors
/// [`Error::Line`], [`Error::Format`], [`Error::Truncated`], [`Error::NotEmpty`],
/// [`Error::Overtaken`], and those of the store.
pub async fn import(
    store: &dyn Store,
    input: &mut (dyn AsyncBufRead + Send + Unpin),
    options: Import,
) -> Result<Summary, Error> {
    let mut lines = Lines::new(input);
    let header = header(&mut lines).await?;
    let mut target = Target::begin(store, options, header.schema).await?;
    while let Some(line) = lines.next().await? {
        match line {
            Line::Lease(lease) => target.lease(&lease, &lines).await?,
            Line::Entry(entry) => {
                let entry = entry.parse().map_err(|why| lines.wrong(why))?;
                target.entry(entry, &lines).await?;
            }
            Line::End(end) => {
                let done = target.finish(&end, &lines).await?;
                return Ok(Summary { revision: Revision(header.revision), ..done });
            }
            Line::Header(_) => return Err(lines.wrong("it is a second header")),
        }
    }
    Err(target.truncated())
}

/// What is not understood is refused before anything is changed.
async fn header(lines: &mut Lines<'_>) -> Result<Header, Error> {
    let Some(Line::Header(header)) = lines.next().await? else {
        return Err(lines.wrong("it is no header: this is no export"));
    };
    if header.format != FORMAT {
        return Err(Error::Format { found: header.format });
    }
    if header.schema > schema::VERSION {
        let (found, known) = (header.schema, schema::VERSION);
        return Err(schema::Error::Newer { found, known }.into());
    }
    Ok(header)
}

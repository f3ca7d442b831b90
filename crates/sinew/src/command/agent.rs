//! `sinew agent`.

use crate::{args::Agent, error::Error};

pub(super) fn agent(args: &Agent) -> Result<(), Error> {
    let _ = args;
    Ok(())
}

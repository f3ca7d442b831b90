//! Nothing between: the client takes the servers in turn by itself.

use anyhow::Result;

use super::{Contender, InRoom, Path, SERVERS, served};
use crate::bench::world::World;

pub(crate) struct Direct;

impl Contender for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        let room = served(world, self.name())?;
        Ok(Box::new(InRoom { room, targets: SERVERS.to_vec() }))
    }
}

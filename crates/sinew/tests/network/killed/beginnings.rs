//! The agent is killed while it begins for the first time, and while it takes all away.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use super::{
    Random,
    census::Census,
    end_agents, is_bare,
    operation::{self, Observed},
};
use crate::{
    life::calls,
    world::{World, eventually_or},
};

/// Works on a host that has nothing of Sinew before and after.
pub(super) struct Beginnings {
    world: World,
    bare: BTreeSet<String>,
    census: Census,
    up: Duration,
    purge: Duration,
}

impl Beginnings {
    pub(super) fn new() -> Self {
        let world = World::new();
        let bare = world.left();
        operation::write(&world, 3, 0);
        let start = Instant::now();
        world.run(&["up", "-d"]);
        let up = start.elapsed();
        let census = Census::of_any(&world);
        census.check(&world, "at first");
        let start = Instant::now();
        world.run(&["down", "--purge", "--yes"]);
        let purge = start.elapsed();
        is_bare(&world, &bare, &BTreeSet::new(), "at first");
        Self { world, bare, census, up, purge }
    }

    /// Orders, and kills whatever agent there is at the moment; whether the order was cut off.
    fn cut_off(&self, arguments: &[&str], moment: Duration) -> bool {
        let mut order = self.world.sinew(arguments);
        let mut order = order.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        let was_done = end_agents(&self.world, &mut order);
        order.wait().unwrap();
        was_done.is_none()
    }

    /// It begins for the first time, and is killed; then it begins again.
    pub(super) fn first_up(&self, random: &mut Random) -> bool {
        let moment = random.moment(self.up);
        let when = format!("killed after {moment:?} of {:?}, beginning", self.up);
        let was_cut_off = self.cut_off(&["up", "-d"], moment);
        self.world.start_agent();
        let (nothing, all) = (Observed::default(), Observed::all(3, 0));
        let now = || Observed::of(&self.world);
        let say = || format!("there is {:?}", now());
        let is_either = || [&nothing, &all].contains(&&now());
        eventually_or(&format!("{when}: it is one or the other"), say, is_either);
        self.world.run(&["up", "-d"]);
        assert_eq!(now(), all, "{when}");
        self.census.check(&self.world, &when);
        assert_eq!(self.world.member(&calls(10)), "{'ok': 10}", "{when}");
        was_cut_off
    }

    /// It is purged, and killed; then it is purged again.
    pub(super) fn purge(&self, random: &mut Random) -> bool {
        let moment = random.moment(self.purge);
        let when = format!("killed after {moment:?} of {:?}, purging", self.purge);
        let objects = self.world.kernel_objects();
        let was_cut_off = self.cut_off(&["down", "--purge", "--yes"], moment);
        self.world.run(&["down", "--purge", "--yes"]);
        is_bare(&self.world, &self.bare, &objects, &when);
        was_cut_off
    }
}

//! The core against a simulated host: everything that may be late, fail or come out of order does.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sinew_api::WorkloadState;

use super::*;

mod host;
mod others;
mod room;
mod scenes;

use host::{Host, Step};

impl Core {
    /// What changes bit by bit is what the whole intent says.
    fn check_launches(&self) {
        let names = self.intent.services().map(|(_, _, name, _)| name);
        let launch = |name: &ServiceName| Some((name.clone(), Arc::new(self.intent.launch(name)?)));
        assert_eq!(self.launches, names.filter_map(launch).collect());
    }
}

proptest! {
    /// Whatever happens in whatever order: no replica runs twice, nothing is launched before the
    /// data path holds it, whatever is in the choice runs, listens and is well; and when it is quiet
    /// again, exactly what is wanted runs and is called.
    #[test]
    fn any_history_is_sound_and_converges(steps in proptest::collection::vec(host::step(), 1..120)) {
        let mut host = Host::new();
        for step in steps {
            host.take(step);
            host.check_soundness();
        }
        host.calm_down();
        host.check_convergence();
    }
}

#[test]
fn halting_ends_everything() {
    let mut host = Host::new();
    host.take(Step::Apply { replicas: [2, 3, 1], variant: 0 });
    host.take(Step::Attach { service: true });
    host.calm_down();
    host.feed(Input::Halt);
    host.calm_down();
    assert!(host.core.halted(), "{:#?}", host.core.instances);
    assert_eq!(host.workloads.keys().collect::<BTreeSet<_>>(), BTreeSet::new());
}

//! Single scenes whose order matters.

use std::path::Path;

use super::{host::name, *};

fn calm(replicas: [u16; 3]) -> Host {
    let mut host = Host::new();
    host.take(Step::Apply { replicas, variant: 0 });
    host.calm_down();
    host.check_convergence();
    host
}

fn state(host: &Host, service: u8, replica: u32) -> Option<WorkloadState> {
    host.core.instance(&Key::of(&name(service), replica)).map(Instance::state)
}

fn changes(host: &Host) -> Vec<&str> {
    host.published
        .iter()
        .filter_map(|(_, kind)| match kind {
            EventKind::Project { change } => Some(change.as_str()),
            _ => None,
        })
        .collect()
}

fn states(host: &Host) -> Vec<(String, WorkloadState)> {
    host.published
        .iter()
        .filter_map(|(_, kind)| match kind {
            EventKind::Workload { service, replica, state, .. } => {
                Some((format!("{service}/{replica}"), *state))
            }
            _ => None,
        })
        .collect()
}

fn position(host: &Host, who: &str, state: WorkloadState) -> usize {
    let all = states(host);
    all.iter().position(|s| *s == (who.to_owned(), state)).unwrap_or_else(|| {
        panic!("{who} never was {state:?}: {all:?}");
    })
}

#[test]
fn a_project_starts_in_the_order_of_its_dependencies_and_stops_in_reverse() {
    let mut host = calm([1, 1, 1]);
    let up = WorkloadState::Up;
    assert!(position(&host, "base/0", up) < position(&host, "api/0", WorkloadState::Starting));
    assert!(position(&host, "api/0", up) < position(&host, "web/0", WorkloadState::Starting));
    assert_eq!(changes(&host), ["applied", "ready"]);
    host.published.clear();
    host.take(Step::Remove);
    host.calm_down();
    let draining = WorkloadState::Draining;
    assert!(position(&host, "web/0", draining) < position(&host, "api/0", draining));
    assert!(position(&host, "api/0", draining) < position(&host, "base/0", draining));
    assert_eq!(changes(&host), ["removed"]);
    assert!(host.kernel.instances.is_empty() && host.kernel.services.is_empty());
}

#[test]
fn a_drained_instance_is_stopped_only_when_its_connections_have_ended() {
    let mut host = calm([2, 0, 0]);
    host.take(Step::Connections { open: 1 });
    host.take(Step::Scale { service: 0, replicas: 1 });
    for _ in 0..20 {
        host.take(Step::Finish { nth: 0, well: true });
        host.take(Step::Connections { open: 1 });
    }
    assert_eq!(state(&host, 0, 1), Some(WorkloadState::Draining));
    assert!(host.workloads.contains_key(&Key::of(&name(0), 1)), "stopped under its callers");
    host.take(Step::Wait { ms: u64::try_from(SETTLE.as_millis()).unwrap() });
    host.take(Step::Connections { open: 0 });
    let instance = host.core.instance(&Key::of(&name(0), 1)).unwrap();
    assert_eq!(instance.phase, Phase::Stopping, "long before the deadline");
    host.calm_down();
    assert_eq!(state(&host, 0, 1), None);
    assert!(host.closed.is_empty(), "{:?}", host.closed);
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let mut host = calm([2, 0, 0]);
    host.take(Step::Connections { open: 1 });
    host.take(Step::Scale { service: 0, replicas: 1 });
    host.take(Step::Finish { nth: 0, well: true });
    host.take(Step::Wait { ms: 3_600_000 });
    let instance = host.core.instance(&Key::of(&name(0), 1)).unwrap();
    assert_eq!(instance.phase, Phase::Stopping);
    let sockets = crate::core::wanted::sockets(instance);
    assert!(host.closed.is_empty(), "{:?}", host.closed);
    host.calm_down();
    assert_eq!(host.closed, sockets, "closed when it has stopped");
    assert_eq!(state(&host, 0, 1), None);
}

#[test]
fn scaling_back_up_in_time_takes_a_draining_instance_back() {
    let mut host = calm([2, 0, 0]);
    host.take(Step::Connections { open: 1 });
    host.take(Step::Scale { service: 0, replicas: 1 });
    host.take(Step::Scale { service: 0, replicas: 2 });
    assert_eq!(state(&host, 0, 1), Some(WorkloadState::Up));
    host.calm_down();
    assert_eq!(host.workloads.len(), 2);
    assert!(host.workloads.values().all(|w| w.starts == 1), "nothing was launched again");
}

fn in_choice(host: &Host) -> usize {
    let ports = host.kernel.services.values().flat_map(|s| &s.ports);
    ports.flat_map(|p| &p.backends).filter(|b| b.in_choice).count()
}

#[test]
fn who_listens_is_called_before_its_supervisor_tells_of_it() {
    let mut host = Host::new();
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    while host.workloads.is_empty() {
        host.take(Step::Finish { nth: 0, well: true });
    }
    for act in [super::host::Act::Start, super::host::Act::Listen] {
        host.take(Step::Process { nth: 0, act });
    }
    for _ in 0..4 {
        host.take(Step::Deliver { kernel: true });
        host.take(Step::Finish { nth: 0, well: true });
    }
    assert_eq!(in_choice(&host), 1);
    assert_eq!(state(&host, 0, 0), Some(WorkloadState::Starting));
    host.calm_down();
    host.check_convergence();
}

#[test]
fn an_exit_leaves_the_choice_with_the_next_revision() {
    let mut host = calm([1, 0, 0]);
    assert_eq!(in_choice(&host), 1);
    host.take(Step::Process { nth: 0, act: super::host::Act::Exit });
    // The kernel tells first, the supervisor then tells how.
    host.take(Step::Deliver { kernel: false });
    host.take(Step::Finish { nth: 0, well: true });
    assert_eq!(in_choice(&host), 0);
    host.take(Step::Deliver { kernel: false });
    assert_eq!(state(&host, 0, 0), Some(WorkloadState::BackingOff));
    host.take(Step::Finish { nth: 0, well: true });
    assert!(
        host.kernel.instances.values().all(|i| i.watch_listen),
        "the next listen() must be seen"
    );
}

#[test]
fn a_restart_takes_one_instance_at_a_time_and_waits_until_it_is_up() {
    let mut host = calm([3, 0, 0]);
    host.published.clear();
    host.take(Step::Restart { service: 0 });
    host.calm_down();
    host.check_convergence();
    let mut away = BTreeSet::new();
    for (who, state) in states(&host) {
        if state == WorkloadState::Up {
            away.remove(&who);
        } else {
            away.insert(who);
        }
        assert!(away.len() <= 1, "{away:?} were away at once");
    }
    let drained = states(&host).iter().filter(|s| s.1 == WorkloadState::Draining).count();
    assert_eq!(drained, 3);
}

#[test]
fn a_restart_that_an_agent_was_killed_in_goes_on_one_at_a_time() {
    let mut host = calm([2, 0, 0]);
    host.take(Step::Restart { service: 0 });
    // The first has its new cgroup, and no supervisor yet.
    while (host.workloads.len(), host.cgroups.len()) != (1, 2) {
        host.take(Step::Connections { open: 0 });
        host.take(Step::Finish { nth: 0, well: true });
        host.take(Step::Deliver { kernel: false });
        host.take(Step::Wait { ms: 1_000 });
    }
    host.take(Step::RestartAgent);
    assert_eq!(state(&host, 0, 1), Some(WorkloadState::Up), "it serves while the other is away");
    while state(&host, 0, 0) != Some(WorkloadState::Up) {
        assert_eq!(in_choice(&host), 1);
        host.take(Step::GoOn { notices_first: false });
    }
    host.calm_down();
    host.check_convergence();
    assert!(host.workloads.values().all(|w| w.starts == 1), "both are others");
}

#[test]
fn a_restart_that_goes_wrong_stops_at_the_first_instance() {
    let mut host = calm([3, 0, 0]);
    host.take(Step::Restart { service: 0 });
    // The new process starts, but never listens.
    for _ in 0..200 {
        host.take(Step::Finish { nth: 0, well: true });
        host.take(Step::Deliver { kernel: false });
        host.take(Step::Connections { open: 0 });
        host.take(Step::Wait { ms: 1_000 });
    }
    let up = (0..3).filter(|r| state(&host, 0, *r) == Some(WorkloadState::Up)).count();
    assert_eq!(up, 2, "the rest still serves");
}

#[test]
fn a_failing_launch_is_repeated_with_growing_pauses() {
    let mut host = Host::new();
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    let mut pauses = Vec::new();
    while pauses.len() < 4 {
        host.take(Step::Finish { nth: 0, well: false });
        for _ in 0..10 {
            host.take(Step::Finish { nth: 0, well: true });
            host.take(Step::Deliver { kernel: false });
        }
        assert_eq!(state(&host, 0, 0), Some(WorkloadState::BackingOff));
        let at = host.core.next_tick().unwrap();
        pauses.push(at - host.now);
        host.take(Step::Wait { ms: (at - host.now).as_millis() as u64 });
    }
    assert!(pauses.is_sorted() && pauses[3] >= pauses[0] * 8, "{pauses:?}");
}

#[test]
fn a_replica_keeps_its_address() {
    let mut host = calm([3, 0, 0]);
    let address = |host: &Host| host.core.instance(&Key::of(&name(0), 2)).unwrap().address4;
    let before = address(&host);
    host.take(Step::Scale { service: 0, replicas: 1 });
    host.calm_down();
    host.take(Step::Scale { service: 0, replicas: 3 });
    host.calm_down();
    assert_eq!(address(&host), before);
}

#[test]
fn a_drained_replica_stays_down_until_its_service_is_restarted() {
    let mut host = calm([2, 0, 0]);
    host.take(Step::Drain { service: 0, replica: 1 });
    host.calm_down();
    assert_eq!(state(&host, 0, 1), Some(WorkloadState::Stopped));
    host.take(Step::RestartAgent);
    host.calm_down();
    assert_eq!(state(&host, 0, 1), Some(WorkloadState::Stopped), "a pause is durable");
    host.take(Step::Restart { service: 0 });
    host.calm_down();
    assert_eq!(state(&host, 0, 1), Some(WorkloadState::Up));
}

#[test]
fn names_are_told_anew_only_when_they_differ() {
    let mut host = calm([2, 1, 0]);
    let mut told = host.core.names_version();
    let mut differs = |host: &Host| {
        let now = host.core.names_version();
        std::mem::replace(&mut told, now) != now
    };
    for step in [
        Step::Scale { service: 0, replicas: 3 },
        Step::Drain { service: 0, replica: 1 },
        Step::Restart { service: 0 },
        Step::Apply { replicas: [2, 2, 2], variant: 1 },
    ] {
        host.take(step);
        assert!(!differs(&host));
    }
    let mut blog = super::host::project([1, 0, 0], 0);
    blog.name = ProjectName::new("blog").unwrap();
    blog.services =
        [(ServiceName::new("posts").unwrap(), blog.services.remove(&name(0)).unwrap())].into();
    host.apply(blog.clone());
    assert!(differs(&host), "a name more");
    blog.services.values_mut().for_each(|service| service.ports[0].number += 1);
    host.apply(blog);
    assert!(differs(&host), "another port");
    host.take(Step::Remove);
    assert!(differs(&host), "names less");
    host.core.check_launches();
}

/// `base` alone, without a port to listen on and without a check.
fn mute() -> Host {
    let mut host = Host::new();
    let mut project = super::host::project([1, 0, 0], 0);
    for service in project.services.values_mut() {
        service.ports.clear();
        service.health.check = sinew_model::Check::None;
    }
    host.apply(project);
    host
}

#[test]
fn what_shows_nothing_but_its_life_is_up_when_it_has_lived_a_while() {
    use super::host::Act;
    let mut host = mute();
    for _ in 0..20 {
        host.take(Step::Finish { nth: 0, well: true });
        host.take(Step::Deliver { kernel: false });
    }
    // It ends as soon as it is started, as often as it is started.
    for _ in 0..3 {
        host.take(Step::Process { nth: 0, act: Act::Start });
        host.take(Step::Deliver { kernel: false });
        assert_eq!(state(&host, 0, 0), Some(WorkloadState::Starting));
        let reason = host.core.instance(&Key::of(&name(0), 0)).unwrap().reason();
        assert_eq!(reason.as_deref(), Some("has only just started"));
        host.take(Step::Wait { ms: 900 });
        host.take(Step::Process { nth: 0, act: Act::Exit });
        host.take(Step::Deliver { kernel: false });
        host.take(Step::Deliver { kernel: false });
        assert_eq!(state(&host, 0, 0), Some(WorkloadState::BackingOff));
    }
    assert_eq!(changes(&host), ["applied"], "what never stayed is not ready");
    host.take(Step::Process { nth: 0, act: Act::Start });
    host.take(Step::Deliver { kernel: false });
    host.take(Step::Wait { ms: 999 });
    assert_eq!(state(&host, 0, 0), Some(WorkloadState::Starting));
    host.take(Step::Wait { ms: 1 });
    assert_eq!(state(&host, 0, 0), Some(WorkloadState::Up));
    assert_eq!(changes(&host), ["applied", "ready"]);
}

#[test]
fn what_did_its_work_at_once_is_ready() {
    use super::host::Act;
    let mut host = mute();
    for _ in 0..20 {
        host.take(Step::Finish { nth: 0, well: true });
        host.take(Step::Deliver { kernel: false });
    }
    host.take(Step::Process { nth: 0, act: Act::Start });
    host.take(Step::Process { nth: 0, act: Act::Finish });
    for _ in 0..3 {
        host.take(Step::Deliver { kernel: false });
    }
    assert_eq!(state(&host, 0, 0), Some(WorkloadState::Exited));
    assert_eq!(changes(&host), ["applied", "ready"]);
}

#[test]
fn a_name_that_nobody_uses_is_free_after_a_rest() {
    let mut host = calm([1, 1, 0]);
    let numbers = |host: &Host| host.intent.numbers.len();
    let wait = |host: &mut Host, ms| {
        host.take(Step::Wait { ms });
        for _ in 0..4 {
            host.take(Step::GoOn { notices_first: false });
        }
    };
    assert_eq!(numbers(&host), 3, "one without replicas is wanted, too");
    let address = host.intent.numbers[&name(0)];
    // Names come and go, and there are always some.
    for round in 0..50 {
        let tool = ServiceName::new(format!("tool-{round}")).unwrap();
        host.attach_as(&tool);
        for _ in 0..8 {
            host.take(Step::GoOn { notices_first: false });
        }
        host.exit_of(&tool);
        wait(&mut host, 300_000);
        assert!(host.intent.numbers.contains_key(&tool), "it rests first");
        assert!(numbers(&host) <= 3 + 5, "{:?}", host.intent.numbers);
    }
    wait(&mut host, 600_000);
    wait(&mut host, 600_000);
    assert_eq!(numbers(&host), 3);
    // One that is in use again in time keeps its addresses.
    host.take(Step::Remove);
    for _ in 0..20 {
        host.take(Step::GoOn { notices_first: false });
        host.take(Step::Connections { open: 0 });
        host.take(Step::Wait { ms: 100 });
    }
    wait(&mut host, 600_000);
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    wait(&mut host, 600_000);
    wait(&mut host, 600_000);
    assert_eq!(host.intent.numbers[&name(0)], address);
    host.take(Step::Remove);
    host.calm_down();
    assert_eq!(numbers(&host), 0);
}

fn backend(host: &Host) -> &sinew_datapath::Backend {
    &host.kernel.services.values().next().unwrap().ports[0].backends[0]
}

fn adopted(foreign: bool) -> Host {
    let mut host = Host::new();
    host.take(Step::Adopt { foreign });
    host.calm_down();
    host.check_convergence();
    host
}

fn old_state(host: &Host) -> Option<WorkloadState> {
    host.core.instance(&Key::of(&super::host::old(), 0)).map(Instance::state)
}

#[test]
fn what_was_adopted_is_called_where_it_listens_and_keeps_its_binds() {
    let host = adopted(true);
    let instance = host.kernel.instances.values().next().unwrap();
    assert_eq!(instance.cgroup, Path::new("/foreign/0"));
    assert!(!instance.own_address && !instance.watch_listen);
    let backend = backend(&host);
    assert_eq!((backend.address4, backend.address6), (Some([127, 0, 0, 1].into()), None));
    assert!(backend.in_choice);
    let moved = adopted(false);
    assert_eq!(moved.kernel.instances.values().next().unwrap().cgroup, Path::new("/c/svc-old/0"));
}

#[test]
fn an_adopted_process_that_ends_is_forgotten_and_a_cgroup_is_waited_for() {
    let mut host = adopted(false);
    host.take(Step::Process { nth: 0, act: super::host::Act::Exit });
    host.calm_down();
    assert_eq!(old_state(&host), None);
    assert!(host.intent.adopted.is_empty() && host.kernel.instances.is_empty());

    let mut host = adopted(true);
    host.take(Step::Process { nth: 0, act: super::host::Act::Exit });
    host.take(Step::Deliver { kernel: false });
    host.take(Step::Finish { nth: 0, well: true });
    assert_eq!(old_state(&host), Some(WorkloadState::Exited));
    assert!(!backend(&host).in_choice);
    assert_eq!(host.kernel.instances.len(), 1, "what starts there is a member at once");
    host.calm_down();
    assert_eq!(old_state(&host), Some(WorkloadState::Up));
    host.take(Step::Process { nth: 0, act: super::host::Act::Replace });
    host.take(Step::Deliver { kernel: false });
    assert_eq!(old_state(&host), Some(WorkloadState::Starting), "hooked anew");
    host.calm_down();
    assert_eq!(old_state(&host), Some(WorkloadState::Up));
}

#[test]
fn a_drained_adopted_endpoint_goes_on_and_is_taken_back_by_adopting_it_again() {
    let mut host = adopted(true);
    host.take(Step::Connections { open: 1 });
    host.take(Step::DrainAdopted { replica: 0 });
    host.take(Step::Finish { nth: 0, well: true });
    host.take(Step::Wait { ms: 100 });
    host.take(Step::Connections { open: 1 });
    assert_eq!(old_state(&host), Some(WorkloadState::Draining), "its connections may end");
    host.calm_down();
    assert_eq!(old_state(&host), Some(WorkloadState::Stopped));
    assert_eq!(host.kernel.instances.len(), 1, "its own calls go on");
    assert!(!backend(&host).in_choice);
    host.take(Step::RestartAgent);
    host.calm_down();
    assert_eq!(old_state(&host), Some(WorkloadState::Stopped));
    let adoption = host.intent.adopted[0].clone();
    host.intent = host.intent.adopt((*adoption).clone()).unwrap();
    host.feed(Input::Intent(Arc::new(host.intent.clone())));
    host.calm_down();
    assert_eq!(old_state(&host), Some(WorkloadState::Up));
    assert_eq!(host.intent.adopted.len(), 1);
}

#[test]
fn a_release_leaves_the_choice_first_and_waits_for_no_connection() {
    let mut host = adopted(false);
    host.take(Step::Connections { open: 1 });
    host.take(Step::Release { replica: 0 });
    let is_clean = |host: &Host| host.core.instance(&Key::of(&super::host::old(), 0)).is_none();
    assert_eq!(old_state(&host), Some(WorkloadState::Draining));
    host.take(Step::Connections { open: 1 });
    assert_eq!(host.workloads.len(), 1, "not before the data path knows");
    for _ in 0..20 {
        host.take(Step::Finish { nth: 0, well: true });
        host.take(Step::Wait { ms: 50 });
        host.take(Step::Connections { open: 1 });
        host.take(Step::Deliver { kernel: false });
    }
    assert!(is_clean(&host) && host.kernel.instances.is_empty(), "{:#?}", host.core);
}

#[test]
fn a_release_waits_for_no_agent() {
    let mut host = adopted(true);
    host.take(Step::Release { replica: 0 });
    host.take(Step::RestartAgent);
    host.calm_down();
    host.check_convergence();
    assert_eq!(old_state(&host), None);
}

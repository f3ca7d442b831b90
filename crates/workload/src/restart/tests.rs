use proptest::prelude::*;

use super::*;

fn policy(restart: Restart) -> Policy {
    Policy { restart, grace: Duration::from_secs(10), backoff: Backoff::default() }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A machine whose program runs since 0.
fn running(restart: Restart) -> Machine {
    let (mut machine, _) = Machine::new(policy(restart));
    assert_eq!(machine.step(at(0), 0, Input::Empty), Some(Action::Launch));
    assert_eq!(machine.step(at(0), 0, Input::Launched), None);
    machine
}

#[test]
fn policies_say_what_follows_an_exit() {
    let cases = [
        (Restart::Always, false, true),
        (Restart::Always, true, true),
        (Restart::OnFailure, false, false),
        (Restart::OnFailure, true, true),
        (Restart::Never, false, false),
        (Restart::Never, true, false),
    ];
    for (restart, failure, again) in cases {
        let mut machine = running(restart);
        assert_eq!(machine.step(at(1), 0, Input::Exited { failure }), Some(Action::KillAll));
        machine.step(at(2), 0, Input::Empty);
        let backs_off = matches!(machine.phase(), Phase::BackingOff { .. });
        assert_eq!(backs_off, again, "{restart:?} {failure}");
        assert_eq!(machine.phase() == Phase::Down { asked: false }, !again);
    }
}

#[test]
fn waits_double_up_to_the_cap_and_begin_anew_after_a_healthy_run() {
    let mut machine = running(Restart::Always);
    let mut now = at(1);
    let mut waits = Vec::new();
    for _ in 0..12 {
        machine.step(now, u64::MAX, Input::Exited { failure: true });
        machine.step(now, 0, Input::Empty);
        let until = machine.deadline().unwrap();
        waits.push((until - now).as_millis());
        now = until;
        assert_eq!(machine.step(now, 0, Input::Tick), Some(Action::Launch));
        machine.step(now, 0, Input::Launched);
    }
    assert_eq!(waits[..4], [99, 199, 399, 799]);
    assert_eq!(waits[11], 29_999);
    now += machine.policy.backoff.healthy_after;
    machine.step(now, u64::MAX, Input::Exited { failure: true });
    machine.step(now, 0, Input::Empty);
    assert_eq!((machine.deadline().unwrap() - now).as_millis(), 99);
}

#[test]
fn a_first_start_that_fails_ends_it_and_a_later_one_does_not() {
    let (mut machine, action) = Machine::new(policy(Restart::Always));
    assert_eq!(action, Action::KillAll);
    machine.step(at(0), 0, Input::Empty);
    machine.step(at(0), 0, Input::NotLaunched { fatal: true });
    machine.step(at(0), 0, Input::Empty);
    assert_eq!(machine.phase(), Phase::Down { asked: false });
    let mut machine = running(Restart::Always);
    machine.step(at(1), 0, Input::Exited { failure: true });
    machine.step(at(1), 0, Input::Empty);
    machine.step(at(1000), 0, Input::Tick);
    machine.step(at(1000), 0, Input::NotLaunched { fatal: false });
    machine.step(at(1000), 0, Input::Empty);
    assert!(matches!(machine.phase(), Phase::BackingOff { .. }));
}

#[test]
fn a_stop_signals_then_kills() {
    let mut machine = running(Restart::Always);
    assert_eq!(machine.step(at(5), 0, Input::Stop), Some(Action::Signal));
    assert_eq!(machine.deadline(), Some(at(10_005)));
    assert_eq!(machine.step(at(6), 0, Input::Stop), None, "once is enough");
    assert_eq!(machine.step(at(10_004), 0, Input::Tick), None);
    assert_eq!(machine.step(at(10_005), 0, Input::Tick), Some(Action::KillAll));
    machine.step(at(10_006), 0, Input::Exited { failure: true });
    machine.step(at(10_006), 0, Input::Empty);
    assert_eq!(machine.phase(), Phase::Down { asked: true });
}

#[test]
fn the_last_word_counts() {
    let mut machine = running(Restart::Never);
    machine.step(at(1), 0, Input::Restart);
    machine.step(at(2), 0, Input::Stop);
    machine.step(at(3), 0, Input::Exited { failure: false });
    assert_eq!(machine.step(at(3), 0, Input::Empty), None);
    assert_eq!(machine.phase(), Phase::Down { asked: true });
    let mut machine = running(Restart::Never);
    machine.step(at(1), 0, Input::Stop);
    machine.step(at(2), 0, Input::Restart);
    machine.step(at(3), 0, Input::Exited { failure: false });
    assert_eq!(machine.step(at(3), 0, Input::Empty), Some(Action::Launch));
}

#[test]
fn a_machine_that_goes_down_gets_no_new_starts() {
    let mut machine = running(Restart::Always);
    machine.step(at(1), 0, Input::Hold(at(15_001)));
    machine.step(at(2), 0, Input::Exited { failure: true });
    machine.step(at(2), 0, Input::Empty);
    assert_eq!(machine.deadline(), Some(at(15_001)));
    machine.step(at(3), 0, Input::Hold(at(15_003)));
    assert_eq!(machine.deadline(), Some(at(15_003)));
    assert_eq!(machine.step(at(4), 0, Input::Restart), Some(Action::Launch), "asked for");
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => Just(Input::Empty),
        4 => Just(Input::Launched),
        2 => any::<bool>().prop_map(|fatal| Input::NotLaunched { fatal }),
        4 => any::<bool>().prop_map(|failure| Input::Exited { failure }),
        6 => Just(Input::Tick),
        1 => Just(Input::Stop),
        1 => Just(Input::Kill),
        1 => Just(Input::Restart),
        1 => (0_u64..100_000).prop_map(|ms| Input::Hold(at(ms))),
    ]
}

/// What the world looks like, as far as the machine's promises need it.
#[derive(Default)]
struct World {
    /// A main process exists.
    main: bool,
    /// Other processes of the cgroup exist.
    rest: bool,
}

impl World {
    /// Whether this can happen now.
    fn allows(&self, input: Input, phase: Phase) -> bool {
        match input {
            Input::Empty => !self.main && !self.rest,
            Input::Launched | Input::NotLaunched { .. } => self.main && phase == Phase::Launching,
            Input::Exited { .. } => self.main && phase != Phase::Launching,
            _ => true,
        }
    }
}

proptest! {
    #[test]
    fn waits_stay_within_their_bounds(failures in 0_u32..100, random: u64) {
        let backoff = Backoff::default();
        let delay = backoff.delay(failures, random);
        let full = backoff.base.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let full = full.min(backoff.cap);
        prop_assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
    }

    #[test]
    fn never_two_programs_and_no_start_after_down(
        restart in prop_oneof![
            Just(Restart::Always), Just(Restart::OnFailure), Just(Restart::Never)
        ],
        inputs in proptest::collection::vec((input(), 0_u64..20_000, any::<u64>()), 0..200),
    ) {
        let (mut machine, _) = Machine::new(policy(restart));
        let mut world = World::default();
        let mut now = at(0);
        for (input, passed, random) in inputs {
            now += at(passed);
            if !world.allows(input, machine.phase()) {
                continue;
            }
            match input {
                Input::Exited { .. } => (world.main, world.rest) = (false, random % 2 == 0),
                Input::NotLaunched { .. } => world.main = false,
                _ => {}
            }
            let before = machine.phase();
            let action = machine.step(now, random, input);
            match action {
                Some(Action::Launch) => {
                    prop_assert!(!world.main && !world.rest, "{before:?} {input:?}");
                    let was_down = matches!(before, Phase::Down { .. });
                    prop_assert!(!was_down);
                    world.main = true;
                }
                Some(Action::KillAll) => world.rest = false,
                Some(Action::SignalRest) => prop_assert!(!world.main),
                Some(Action::Signal) | None => {}
            }
            if matches!(machine.phase(), Phase::Down { .. } | Phase::BackingOff { .. }) {
                prop_assert!(!world.main && !world.rest, "{input:?} led to {:?}", machine.phase());
            }
            // It can be stored and goes on as it was, to the millisecond.
            let stored = serde_json::to_string(&machine).unwrap();
            let read: Machine = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        }
    }
}

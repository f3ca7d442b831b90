use proptest::prelude::*;

use super::*;

const NOW: Time = Time::from_ns(1_000_000_000);

fn budget() -> Budget {
    Budget::new(BudgetSettings::default()).unwrap()
}

fn failure() -> Failure {
    Failure { reached: Reached::Perhaps, idempotent: true, transient: true, retry_after: None }
}

fn decide(policy: &Policy, tried: u32, failure: Failure, deadline: Option<Time>) -> Decision {
    policy.decide(tried, &failure, deadline, &budget(), NOW, u64::MAX)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_call_is_tried_so_often() {
    let policy = Policy::default();
    let retry = |pause| Decision::Retry { pause: ms(pause), until: None };
    assert_eq!(decide(&policy, 1, failure(), None), retry(25));
    assert_eq!(decide(&policy, 2, failure(), None), retry(50));
    assert_eq!(decide(&policy, 3, failure(), None), Decision::GiveUp(Reason::Tries));
}

#[test]
fn only_what_is_idempotent_or_was_not_sent_is_tried_again() {
    let of = |reached, idempotent| {
        let failure = Failure { reached, idempotent, ..failure() };
        match decide(&Policy::default(), 1, failure, None) {
            Decision::Retry { .. } => None,
            Decision::GiveUp(reason) => Some(reason),
        }
    };
    assert_eq!(of(Reached::Perhaps, true), None);
    assert_eq!(of(Reached::Nobody, false), None);
    assert_eq!(of(Reached::Perhaps, false), Some(Reason::MayHaveActed));
    assert_eq!(of(Reached::Answered, true), Some(Reason::Answered));
}

#[test]
fn what_would_end_alike_is_not_tried_again() {
    let failure = Failure { transient: false, ..failure() };
    let decision = decide(&Policy::default(), 1, failure, None);
    assert_eq!(decision, Decision::GiveUp(Reason::Permanent));
}

#[test]
fn a_try_ends_with_its_own_time_out_or_the_deadline() {
    let policy = Policy { per_try_timeout: Some(ms(100)), ..Policy::default() };
    assert_eq!(policy.until(NOW, Some(NOW + ms(300))), Some(NOW + ms(100)));
    assert_eq!(policy.until(NOW, Some(NOW + ms(30))), Some(NOW + ms(30)));
    let next = decide(&policy, 1, failure(), Some(NOW + ms(300)));
    assert_eq!(next, Decision::Retry { pause: ms(25), until: Some(NOW + ms(125)) });
    let next = decide(&policy, 1, failure(), Some(NOW + ms(60)));
    assert_eq!(next, Decision::Retry { pause: ms(25), until: Some(NOW + ms(60)) });
}

#[test]
fn a_retry_that_would_begin_after_the_deadline_is_none() {
    let decision = decide(&Policy::default(), 1, failure(), Some(NOW + ms(25)));
    assert_eq!(decision, Decision::GiveUp(Reason::Deadline));
}

#[test]
fn the_pause_that_was_asked_for_is_kept() {
    let asked = |pause| Failure { retry_after: Some(ms(pause)), ..failure() };
    let decision = decide(&Policy::default(), 1, asked(2000), None);
    assert_eq!(decision, Decision::Retry { pause: ms(2025), until: None });
    let decision = decide(&Policy::default(), 1, asked(5001), None);
    assert_eq!(decision, Decision::GiveUp(Reason::Pause));
}

#[test]
fn the_budget_has_the_last_word_and_gives_nothing_for_what_is_not_tried() {
    let settings = BudgetSettings { minimum_per_second: 0, ..BudgetSettings::default() };
    let budget = Budget::new(settings).unwrap();
    (0..10).for_each(|_| budget.deposit(NOW));
    let policy = Policy::default();
    let decide = |tried| policy.decide(tried, &failure(), None, &budget, NOW, 0);
    assert_eq!(decide(3), Decision::GiveUp(Reason::Tries));
    assert_eq!(budget.left(NOW), 2);
    assert!(matches!(decide(1), Decision::Retry { .. }));
    assert!(matches!(decide(1), Decision::Retry { .. }));
    assert_eq!(decide(1), Decision::GiveUp(Reason::Budget));
}

#[test]
fn budgets_out_of_range_are_refused() {
    let named = |settings| Budget::new(settings).unwrap_err().field;
    let short = BudgetSettings { window: ms(999), ..BudgetSettings::default() };
    assert_eq!(named(short), "window");
    assert_eq!(named(BudgetSettings { percent: 1001, ..BudgetSettings::default() }), "percent");
}

#[test]
fn threads_do_not_overdraw_a_budget() {
    let settings = BudgetSettings { percent: 10, minimum_per_second: 0, ..Default::default() };
    let budget = Budget::new(settings).unwrap();
    (0..1000).for_each(|_| budget.deposit(NOW));
    let take = || (0..1000).filter(|_| budget.take(NOW)).count();
    let taken = std::thread::scope(|scope| {
        let other = scope.spawn(take);
        take() + other.join().unwrap()
    });
    assert_eq!(taken, 100);
}

proptest! {
    #[test]
    fn a_budget_allows_what_a_list_of_all_calls_does(
        steps in prop::collection::vec((0..2000_u64, any::<bool>()), 0..300),
        percent in 0..=120_u32,
        minimum_per_second in 0..=2_u32,
    ) {
        let window = Duration::from_secs(1);
        let settings = BudgetSettings { percent, minimum_per_second, window };
        let budget = Budget::new(settings).unwrap();
        let (mut now, mut calls, mut retries) = (0, Vec::new(), Vec::new());
        for (after, retry) in steps {
            now += after / 10;
            let time = Time::ORIGIN + ms(now);
            let held = |past: &[u64]| past.iter().filter(|at| *at / 50 + 20 > now / 50).count();
            if retry {
                let allowed = held(&calls) * percent as usize / 100 + minimum_per_second as usize;
                let may = held(&retries) < allowed;
                prop_assert_eq!(budget.take(time), may);
                if may {
                    retries.push(now);
                }
            } else {
                budget.deposit(time);
                calls.push(now);
            }
        }
    }

    #[test]
    fn a_pause_lies_between_none_and_the_longest(tried in 0..200_u32, draw: u64, base in 1..5000_u64) {
        let backoff = Backoff { base: ms(base), cap: ms(4000) };
        let naive = (base as f64 * 2_f64.powi(tried.saturating_sub(1) as i32)).min(4000.0);
        prop_assert_eq!(backoff.longest(tried), ms(naive as u64));
        prop_assert!(backoff.pause(tried, draw) <= backoff.longest(tried));
        prop_assert_eq!(backoff.pause(tried, 0), Duration::ZERO);
        prop_assert_eq!(backoff.pause(tried, u64::MAX), backoff.longest(tried));
    }
}

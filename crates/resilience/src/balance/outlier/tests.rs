use proptest::prelude::*;

use super::*;

fn at(s: u64) -> Time {
    Time::ORIGIN + Duration::from_secs(s)
}

fn set(settings: OutlierSettings, hosts: usize) -> Outliers {
    let hosts: Vec<Arc<Host>> = (0..hosts).map(|_| Arc::default()).collect();
    Outliers::new(settings, &hosts).unwrap()
}

fn settings() -> OutlierSettings {
    OutlierSettings { max_ejected_percent: 50, ..OutlierSettings::default() }
}

fn fail(outliers: &Outliers, host: usize, now: u64, count: u32, answer: Answer) -> Option<Ejected> {
    (0..count).filter_map(|_| outliers.record(host, at(now), answer)).last()
}

#[test]
fn errors_in_a_row_eject_and_a_success_between_them_does_not() {
    let outliers = set(settings(), 4);
    assert_eq!(fail(&outliers, 0, 1, 4, Answer::Error), None);
    outliers.record(0, at(1), Answer::Success);
    assert_eq!(fail(&outliers, 0, 1, 4, Answer::Error), None);
    let ejected = fail(&outliers, 0, 1, 1, Answer::Error);
    assert_eq!(ejected, Some(Ejected { host: 0, until: at(31), reason: Reason::Errors(5) }));
    assert!(outliers.hosts[0].is_ejected(at(30)) && !outliers.hosts[0].is_ejected(at(31)));
}

#[test]
fn gateway_errors_have_a_row_of_their_own() {
    let settings = OutlierSettings { consecutive_gateway_errors: 3, ..settings() };
    let outliers = set(settings, 4);
    assert_eq!(fail(&outliers, 0, 1, 2, Answer::GatewayError), None);
    assert_eq!(fail(&outliers, 0, 1, 1, Answer::Error), None);
    assert_eq!(fail(&outliers, 0, 1, 1, Answer::GatewayError), None);
    let fifth = fail(&outliers, 0, 1, 1, Answer::GatewayError).unwrap();
    assert_eq!(fifth.reason, Reason::Errors(5));
    let third = fail(&outliers, 1, 1, 3, Answer::GatewayError).unwrap();
    assert_eq!(third.reason, Reason::GatewayErrors(3));
}

#[test]
fn an_ejection_lasts_twice_as_long_as_the_one_before_and_time_forgives() {
    let outliers = set(settings(), 4);
    let eject = |now| fail(&outliers, 0, now, 5, Answer::Error).unwrap().until;
    assert_eq!(eject(0), at(30));
    assert_eq!(eject(40), at(100));
    assert_eq!(eject(200), at(320));
    assert_eq!([eject(400), eject(700)], [at(640), at(1000)]);
    // Of five, four are forgiven.
    for now in [1000, 1010, 1020, 1030, 1040] {
        outliers.sweep(at(now), |_| ());
    }
    assert_eq!(eject(1050), at(1110));
}

#[test]
fn no_more_are_out_than_may_be_nor_the_last_one() {
    for (hosts, percent, most) in
        [(10, 10, 1), (10, 35, 3), (2, 10, 1), (2, 100, 1), (1, 100, 0), (5, 0, 0)]
    {
        let settings = OutlierSettings { max_ejected_percent: percent, ..settings() };
        let outliers = set(settings, hosts);
        let out = (0..hosts).filter_map(|host| fail(&outliers, host, 1, 9, Answer::Error));
        assert_eq!(out.count(), most, "{percent} % of {hosts}");
    }
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let settings = OutlierSettings { consecutive_errors: 0, ..settings() };
    let outliers = set(settings, 6);
    outliers.sweep(at(1), |_| ());
    for host in 0..6 {
        for call in 0..100 {
            let fails = if host == 2 { call % 2 == 0 } else { call % 50 == 0 };
            let answer = if fails { Answer::Error } else { Answer::Success };
            assert_eq!(outliers.record(host, at(5), answer), None);
        }
    }
    let mut ejected = Vec::new();
    outliers.sweep(at(10), |one| ejected.push(one));
    assert!(ejected.is_empty(), "the interval is not over");
    outliers.sweep(at(11), |one| ejected.push(one));
    assert_eq!(ejected.len(), 1);
    assert_eq!((ejected[0].host, ejected[0].until), (2, at(41)));
    let Reason::SuccessRate { rate, least } = ejected[0].reason else { panic!("{ejected:?}") };
    // Five rates of 0.98 and one of 0.5: mean 0.9, deviation 0.17889.
    assert!(rate == 0.5 && (least - 0.56011).abs() < 0.0001, "{least}");
    outliers.sweep(at(30), |one| ejected.push(one));
    assert_eq!(ejected.len(), 1, "the next interval begins without calls");
}

#[test]
fn what_is_known_of_a_backend_outlives_its_set() {
    let host = Arc::new(Host::default());
    let before = Outliers::new(settings(), &[Arc::default(), host.clone()]).unwrap();
    assert!(fail(&before, 1, 1, 5, Answer::Error).is_some());
    let after = Outliers::new(settings(), &[host, Arc::default(), Arc::default()]).unwrap();
    assert!(after.hosts[0].is_ejected(at(5)));
    assert_eq!(fail(&after, 0, 5, 9, Answer::Error), None);
    assert_eq!(fail(&after, 0, 40, 5, Answer::Error).unwrap().until, at(100));
}

#[test]
fn settings_out_of_range_are_refused() {
    let named = |settings| Outliers::new(settings, &[]).unwrap_err().field;
    assert_eq!(named(OutlierSettings { interval: Duration::ZERO, ..settings() }), "interval");
    assert_eq!(
        named(OutlierSettings { max_ejected_percent: 101, ..settings() }),
        "max_ejected_percent"
    );
    let short = Duration::from_secs(1);
    assert_eq!(named(OutlierSettings { max_ejection: short, ..settings() }), "max_ejection");
}

/// All answers of a backend, in order, and its ejections.
#[derive(Clone, Default)]
struct Naive {
    answers: Vec<Answer>,
    of_interval: Vec<Answer>,
    until: u64,
    ejections: u32,
}

impl Naive {
    fn row(&self, is: impl Fn(Answer) -> bool) -> u32 {
        self.answers.iter().rev().take_while(|answer| is(**answer)).count() as u32
    }
}

struct Model {
    settings: OutlierSettings,
    hosts: Vec<Naive>,
    sweep: u64,
}

impl Model {
    fn eject(&mut self, host: usize, now: u64) -> bool {
        let all = self.hosts.len();
        let most = (all * usize::from(self.settings.max_ejected_percent) / 100).max(1).min(all - 1);
        let out = self.hosts.iter().filter(|host| now < host.until).count();
        let host = &mut self.hosts[host];
        if now < host.until || out >= most {
            return false;
        }
        let long = 30.0 * 2_f64.powi(host.ejections as i32);
        host.until = now + long.min(300.0) as u64;
        host.ejections += 1;
        host.answers.clear();
        true
    }

    fn record(&mut self, host: usize, now: u64, answer: Answer) -> bool {
        self.hosts[host].answers.push(answer);
        self.hosts[host].of_interval.push(answer);
        let errors = self.hosts[host].row(|answer| answer != Answer::Success);
        let gateway = self.hosts[host].row(|answer| answer == Answer::GatewayError);
        (errors >= 5 || gateway >= 3) && answer != Answer::Success && self.eject(host, now)
    }

    fn sweep(&mut self, now: u64) -> Vec<usize> {
        if now < self.sweep {
            return Vec::new();
        }
        let first = self.sweep == 0;
        self.sweep = now + 10;
        let answers: Vec<Vec<Answer>> =
            self.hosts.iter_mut().map(|host| std::mem::take(&mut host.of_interval)).collect();
        if first {
            return Vec::new();
        }
        for host in self.hosts.iter_mut().filter(|host| now >= host.until) {
            host.ejections = host.ejections.saturating_sub(1);
        }
        let rates: Vec<Option<f64>> = answers
            .iter()
            .map(|answers| {
                let good = answers.iter().filter(|answer| **answer == Answer::Success).count();
                (answers.len() >= 4).then(|| good as f64 / answers.len() as f64)
            })
            .collect();
        let known: Vec<f64> = rates.iter().copied().flatten().collect();
        if known.len() < 3 {
            return Vec::new();
        }
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let squares: f64 = known.iter().map(|rate| (rate - mean) * (rate - mean)).sum();
        let least = mean - (squares / known.len() as f64).sqrt();
        let low = (0..rates.len()).filter(|host| rates[*host].is_some_and(|rate| rate < least));
        low.collect::<Vec<_>>().into_iter().filter(|host| self.eject(*host, now)).collect()
    }
}

proptest! {
    #[test]
    fn it_ejects_whom_a_naive_one_does(
        steps in prop::collection::vec((0..3_u64, 0..5_usize, 0..8_u8), 0..400), percent in 1..=100_u8,
    ) {
        let settings = OutlierSettings {
            consecutive_gateway_errors: 3,
            success_rate: Some(SuccessRate { minimum_hosts: 3, minimum_calls: 4, factor: 1.0 }),
            max_ejected_percent: percent,
            ..OutlierSettings::default()
        };
        let outliers = set(settings, 5);
        let mut model = Model { settings, hosts: vec![Naive::default(); 5], sweep: 0 };
        let mut now = 1;
        for (after, host, kind) in steps {
            now += after;
            let mut swept = Vec::new();
            outliers.sweep(at(now), |ejected| swept.push(ejected.host));
            prop_assert_eq!(swept, model.sweep(now));
            let answer = match kind {
                0..=3 => Answer::Success,
                4..=5 => Answer::Error,
                _ => Answer::GatewayError,
            };
            let ejected = outliers.record(host, at(now), answer);
            prop_assert_eq!(ejected.is_some(), model.record(host, now, answer));
            for (known, naive) in outliers.hosts.iter().zip(&model.hosts) {
                prop_assert_eq!(known.is_ejected(at(now)), now < naive.until);
            }
        }
    }
}

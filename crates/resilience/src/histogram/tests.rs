use proptest::prelude::*;

use super::*;
use crate::time::Time;

fn values() -> impl Strategy<Value = Vec<u64>> {
    let value =
        prop_oneof![0..200_u64, 0..100_000_u64, (0..42_u32).prop_map(|log| 1 << log), 0..=GREATEST];
    prop::collection::vec(value, 1..200)
}

fn of(values: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    values.iter().for_each(|value| histogram.record(*value));
    histogram
}

/// The nearest rank in a sorted list.
fn naive(values: &[u64], q: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn is_close(found: u64, real: u64) -> bool {
    found.abs_diff(real) as f64 <= real as f64 / 64.0
}

proptest! {
    #[test]
    fn a_quantile_is_that_of_all_values_but_for_one_in_64(values in values(), q in 0.0..=1.0) {
        let found = of(&values).quantile(q).unwrap();
        let real = naive(&values, q);
        prop_assert!(is_close(found, real), "{} is {}", found, real);
    }

    #[test]
    fn merged_it_is_what_one_would_be_that_saw_all(left in values(), right in values()) {
        let mut merged = of(&left);
        merged.merge(&of(&right));
        prop_assert_eq!(&merged, &of(&[left.clone(), right.clone()].concat()));
        let mut sent = of(&left);
        let theirs = of(&right);
        theirs.buckets().for_each(|(bucket, count)| sent.add(bucket, count, 0));
        sent.add(0, 0, theirs.sum());
        prop_assert_eq!(sent, merged);
    }

    #[test]
    fn a_rolling_one_holds_the_last_buckets(
        calls in prop::collection::vec((0..50_u64, 0..1000_u64), 1..100),
        buckets in 1..5_u32,
        q in 0.0..=1.0,
    ) {
        let rolling = Rolling::new(Duration::from_nanos(20), buckets).unwrap();
        let (mut now, mut all) = (0, Vec::new());
        for (after, value) in calls {
            now += after;
            rolling.record(Time::from_ns(now), Duration::from_nanos(value));
            all.push((now, value));
        }
        let held = all.iter().filter(|(at, _)| at / 20 + u64::from(buckets) > now / 20);
        let held: Vec<u64> = held.map(|(_, value)| *value).collect();
        prop_assert_eq!(rolling.read(Time::from_ns(now)), of(&held));
        let (latency, count) = rolling.latency(Time::from_ns(now), q).unwrap();
        prop_assert_eq!((Some(latency), count), (of(&held).latency(q), held.len() as u64));
    }
}

#[test]
fn every_value_lies_in_its_bucket_and_none_between_two() {
    for edge in (0..42).flat_map(|log| [(1_u64 << log) - 1, 1 << log, (1 << log) + 1]) {
        let bucket = bucket(edge);
        assert!(lower_bound(bucket) <= edge && edge < lower_bound(bucket + 1), "{edge}");
    }
    assert!((0..BUCKETS).all(|index| bucket(lower_bound(index)) == index));
    assert_eq!((bucket(GREATEST), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
}

#[test]
fn an_empty_one_knows_nothing() {
    let empty = Recorder::default().read();
    assert_eq!((empty.quantile(0.5), empty.mean(), empty.count()), (None, None, 0));
}

#[test]
fn the_mean_is_exact() {
    let recorder = Recorder::default();
    recorder.record(1_000_003);
    recorder.record(2_000_001);
    assert_eq!(recorder.read().mean(), Some(1_500_002.0));
}

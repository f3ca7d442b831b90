//! Log-linear histograms: four buckets an octave, so a value is known to 12.5 %, and histograms of
//! several CPUs, edges or hosts are merged by adding their buckets.

/// Buckets of a histogram: 32 octaves, from 1 to 2^32 - 1.
pub const BUCKETS: usize = 128;

/// Buckets of a coarse histogram, where room is dear: two of the others each.
pub const COARSE: usize = BUCKETS / 2;

/// The coarse bucket that holds what `bucket` counts.
#[inline(always)]
pub const fn coarse(bucket: usize) -> usize {
    bucket / (BUCKETS / COARSE)
}

/// The bucket that counts `value`. Values below 4 have one each; above, an octave has four.
#[inline(always)]
pub const fn bucket(value: u32) -> usize {
    if value < 4 {
        return value as usize;
    }
    // 31 - leading zeros without the intrinsic, which the kernel's target has no instruction for.
    let (mut v, mut log) = (value, 0u32);
    if v >= 1 << 16 {
        v >>= 16;
        log += 16;
    }
    if v >= 1 << 8 {
        v >>= 8;
        log += 8;
    }
    if v >= 1 << 4 {
        v >>= 4;
        log += 4;
    }
    if v >= 1 << 2 {
        v >>= 2;
        log += 2;
    }
    if v >= 1 << 1 {
        log += 1;
    }
    let fraction = (value >> (log - 2)) & 3;
    (((log - 1) * 4 + fraction) as usize) & (BUCKETS - 1)
}

/// The smallest value that bucket `index` counts.
pub const fn lower_bound(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let (log, fraction) = ((index / 4 + 1) as u32, (index % 4) as u64);
    (4 + fraction) << (log - 2)
}

/// The value below which a share `q` (0 to 1) of the entries lies, interpolated inside its bucket;
/// `None` when the histogram is empty. Takes coarse histograms too.
pub fn quantile<const N: usize>(buckets: &[u64; N], q: f64) -> Option<f64> {
    let bound = |index: usize| lower_bound(index * (BUCKETS / N)) as f64;
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = q * total as f64;
    let mut below = 0.0;
    for (index, count) in buckets.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let (low, high) = (bound(index), bound(index + 1));
            return Some(low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_inside_its_bucket() {
        for value in (0..5_000).chain((0..32).flat_map(|s| [(1u32 << s) - 1, 1 << s, (1 << s) + 1]))
        {
            let index = bucket(value);
            assert!(lower_bound(index) <= u64::from(value), "{value} in {index}");
            assert!(u64::from(value) < lower_bound(index + 1), "{value} in {index}");
        }
        assert!(bucket(u32::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_a_uniform_set() {
        let (mut buckets, mut coarser) = ([0; BUCKETS], [0; COARSE]);
        for value in 0..10_000 {
            buckets[bucket(value)] += 1;
            coarser[coarse(bucket(value))] += 1;
        }
        let p50 = quantile(&buckets, 0.5).unwrap();
        assert!((p50 - 5_000.0).abs() < 5_000.0 * 0.125, "{p50}");
        let p50 = quantile(&coarser, 0.5).unwrap();
        assert!((p50 - 5_000.0).abs() < 5_000.0 * 0.25, "{p50}");
        assert_eq!(quantile(&[0; BUCKETS], 0.5), None);
    }
}

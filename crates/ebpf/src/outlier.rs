//! Ejection of a backend that fails: how long, and when it may be probed.

use sinew_abi::Outlier;

/// How long the ejection after `ejections` earlier ones lasts: it doubles up to the maximum.
#[inline(always)]
pub const fn duration_ns(outlier: &Outlier, ejections: u32) -> u64 {
    // 2^20 times the base is beyond any maximum; the bound keeps the shift defined.
    let shift = if ejections > 20 { 20 } else { ejections };
    let wanted = outlier.base_ns << shift;
    if wanted > outlier.max_ns || wanted < outlier.base_ns { outlier.max_ns } else { wanted }
}

/// Whether a backend is kept out at `now`, before any probe.
#[inline(always)]
pub const fn ejected(ejected_until_ns: u64, now: u64) -> bool {
    ejected_until_ns > now
}

/// Whether the ejection ended and somebody has to try it first.
#[inline(always)]
pub const fn needs_probe(ejected_until_ns: u64, now: u64) -> bool {
    ejected_until_ns != 0 && ejected_until_ns <= now
}

/// Whether the lease of a probe begun at `probe_ns` has lapsed (or there is none). Another CPU may have
/// begun it a tick later than our `now`.
#[inline(always)]
pub const fn lease_free(outlier: &Outlier, probe_ns: u64, now: u64) -> bool {
    probe_ns == 0 || now.saturating_sub(probe_ns) > outlier.probe_ns
}

/// Whether one more of `len` slots may be ejected when `out` of `seen` looked at are already.
#[inline(always)]
pub const fn may_eject(outlier: &Outlier, out: u32, seen: u32, len: u32) -> bool {
    // A service of one has nobody to turn to.
    len > 1 && (out + 1) * 100 <= outlier.max_ejected_percent * seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTLIER: Outlier = Outlier {
        consecutive_failures: 3,
        max_ejected_percent: 50,
        base_ns: 1_000,
        max_ns: 60_000,
        probe_ns: 500,
    };

    #[test]
    fn ejections_double_up_to_the_maximum() {
        assert_eq!(duration_ns(&OUTLIER, 0), 1_000);
        assert_eq!(duration_ns(&OUTLIER, 3), 8_000);
        assert_eq!(duration_ns(&OUTLIER, 6), 60_000);
        assert_eq!(duration_ns(&OUTLIER, u32::MAX), 60_000);
        assert_eq!(duration_ns(&Outlier { base_ns: u64::MAX / 2, ..OUTLIER }, 7), 60_000);
    }

    #[test]
    fn half_of_a_service_stays() {
        assert!(!may_eject(&OUTLIER, 0, 1, 1), "the only one is never ejected");
        assert!(may_eject(&OUTLIER, 0, 2, 2));
        assert!(!may_eject(&OUTLIER, 1, 3, 3));
        assert!(may_eject(&OUTLIER, 1, 4, 4));
    }

    #[test]
    fn a_probe_waits_for_the_end_and_a_free_lease() {
        assert!(!needs_probe(0, 5) && !needs_probe(9, 5) && needs_probe(5, 5));
        assert!(lease_free(&OUTLIER, 0, 5) && !lease_free(&OUTLIER, 5, 100));
        assert!(lease_free(&OUTLIER, 5, 506));
        assert!(!lease_free(&OUTLIER, 6, 5), "taken by a processor that is a tick ahead");
    }
}

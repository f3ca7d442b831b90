//! When another host is under suspicion: it left connects without an answer, so that new ones go
//! elsewhere while there is anywhere else, long before each endpoint there has failed often enough to
//! be ejected for itself.
//!
//! An answer to anybody ends it at once. Without one it lasts, each time twice as long as before; when
//! its time is over one caller may try the host. The agent tries it all the while and puts that off:
//! only when there is no agent a caller pays for the try.

use sinew_abi::Suspicion;

/// How soon a connect() between hosts is tried again, nanoseconds: hosts of one network answer in
/// less than a tenth of it, and the kernel's own second is longer than a host may be away unnoticed.
pub const RETRY_NS: u64 = 250_000_000;
/// How often it is tried again at most; then the call fails, after two to five seconds.
pub const RETRIES: u32 = 3;
/// Connects without an answer, and without an answer to another in between, that make a host
/// suspect: one may be lost by chance.
pub const PATIENCE: u32 = 2;
/// How long the first suspicion lasts.
pub const FIRST_NS: u64 = 1_000_000_000;
/// How long one lasts at most.
pub const LONGEST_NS: u64 = 10_000_000_000;
/// How long others wait for what comes of a probe: it is tried again three times meanwhile.
pub const PROBE_NS: u64 = 1_000_000_000;

/// What callers do about a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They call it.
    Trusted,
    /// They pass it over.
    Suspect,
    /// One of them may try it.
    Due,
}

/// Where a host stands that is under suspicion until then, and was probed at that time.
#[inline(always)]
pub const fn standing(until_ns: u64, probe_ns: u64, now_ns: u64) -> Standing {
    if until_ns == 0 {
        Standing::Trusted
    } else if until_ns > now_ns || !lease_free(probe_ns, now_ns) {
        Standing::Suspect
    } else {
        Standing::Due
    }
}

/// Whether the lease of a probe begun at `probe_ns` has lapsed, or there is none. Another processor
/// may be a tick ahead.
#[inline(always)]
const fn lease_free(probe_ns: u64, now_ns: u64) -> bool {
    probe_ns == 0 || now_ns.saturating_sub(probe_ns) > PROBE_NS
}

/// How long a suspicion lasts after so many in a row before it.
#[inline(always)]
const fn lasts_ns(rounds: u32) -> u64 {
    // 2^4 seconds are more than the longest.
    let doubled = FIRST_NS << if rounds > 4 { 4 } else { rounds };
    if doubled > LONGEST_NS { LONGEST_NS } else { doubled }
}

/// One more connect got no answer.
#[inline(always)]
pub const fn unanswered(host: &Suspicion, now_ns: u64) -> Suspicion {
    let unanswered = host.unanswered.saturating_add(1);
    // One that began before the others knew: it adds nothing.
    let known = host.until_ns > now_ns;
    // A single one is enough where nothing has been answered since the last time.
    if known || (host.until_ns == 0 && unanswered < PATIENCE) {
        return Suspicion { unanswered, ..*host };
    }
    Suspicion {
        unanswered,
        rounds: host.rounds.saturating_add(1),
        until_ns: now_ns.saturating_add(lasts_ns(host.rounds)),
        probe_ns: 0,
        suspicions: host.suspicions.saturating_add(1),
    }
}

/// It answered.
#[inline(always)]
pub const fn answered(host: &Suspicion) -> Suspicion {
    Suspicion { suspicions: host.suspicions, ..Suspicion::ZERO }
}

/// Whether there is anything that an answer ends.
#[inline(always)]
pub const fn is_clean(host: &Suspicion) -> bool {
    host.unanswered == 0 && host.until_ns == 0
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn standing(host: &Suspicion, now_ns: u64) -> Standing {
        super::standing(host.until_ns, host.probe_ns, now_ns)
    }

    fn after(unanswered_at: &[u64]) -> Suspicion {
        unanswered_at.iter().fold(Suspicion::ZERO, |host, at| unanswered(&host, *at))
    }

    #[test]
    fn one_may_be_lost_and_two_are_suspect() {
        assert_eq!(standing(&after(&[SECOND]), SECOND), Standing::Trusted);
        let host = after(&[SECOND, SECOND]);
        assert_eq!(host.suspicions, 1);
        assert_eq!(standing(&host, 2 * SECOND - 1), Standing::Suspect);
        assert_eq!(standing(&host, 2 * SECOND), Standing::Due);
        assert_eq!(standing(&answered(&host), SECOND), Standing::Trusted);
        assert!(is_clean(&answered(&host)) && !is_clean(&after(&[SECOND])));
    }

    #[test]
    fn suspicions_last_twice_as_long_each_time() {
        let (mut host, mut now, mut lasted) = (after(&[SECOND]), SECOND, Vec::new());
        for _ in 0..7 {
            host = unanswered(&host, now);
            lasted.push((host.until_ns - now) / SECOND);
            now = host.until_ns;
        }
        assert_eq!(lasted, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(host.rounds, 7);
        assert_eq!(unanswered(&answered(&host), now).rounds, 0, "an answer ends it all");
    }

    #[test]
    fn one_probes_while_the_others_wait() {
        let host = after(&[SECOND, SECOND]);
        let probed = Suspicion { probe_ns: host.until_ns, ..host };
        let end = host.until_ns + PROBE_NS;
        assert_eq!(standing(&probed, host.until_ns), Standing::Suspect);
        assert_eq!(standing(&probed, host.until_ns - 1), Standing::Suspect);
        assert_eq!(standing(&probed, end), Standing::Suspect);
        assert_eq!(standing(&probed, end + 1), Standing::Due, "nothing came of it");
        let failed = unanswered(&probed, host.until_ns + RETRY_NS);
        assert_eq!((failed.probe_ns, failed.rounds), (0, 2));
    }

    #[derive(Clone, Copy, Debug)]
    enum Happens {
        Unanswered,
        Answered,
        /// Somebody takes a probe if one is due.
        Call,
        Passes(u64),
    }

    fn happenings() -> impl Strategy<Value = Vec<Happens>> {
        let one = prop_oneof![
            4 => Just(Happens::Unanswered),
            1 => Just(Happens::Answered),
            3 => Just(Happens::Call),
            3 => (0..15 * SECOND).prop_map(Happens::Passes),
        ];
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        /// Told in words: who was not answered twice since the last answer is not suspected; who was
        /// is, until an answer; and never for longer than the longest time without a probe.
        #[test]
        fn the_rule_holds_whatever_happens(happenings in happenings()) {
            let (mut host, mut now) = (Suspicion::ZERO, SECOND);
            let mut misses = 0;
            let mut last_probe = None;
            for happens in happenings {
                match happens {
                    Happens::Passes(for_ns) => now += for_ns,
                    Happens::Answered => {
                        (host, misses) = (answered(&host), 0);
                        last_probe = None;
                    }
                    Happens::Unanswered => {
                        (host, misses) = (unanswered(&host, now), misses + 1);
                    }
                    Happens::Call if standing(&host, now) == Standing::Due => {
                        prop_assert!(last_probe.is_none_or(|at| now > at + PROBE_NS || host.probe_ns == 0));
                        host.probe_ns = now;
                        last_probe = Some(now);
                    }
                    Happens::Call => {}
                }
                let trusted = standing(&host, now) == Standing::Trusted;
                prop_assert_eq!(trusted, misses < PATIENCE);
                prop_assert!(host.until_ns <= now + LONGEST_NS);
                prop_assert!(host.rounds <= misses);
                prop_assert_ne!(standing(&host, now + LONGEST_NS + PROBE_NS + 1), Standing::Suspect);
            }
        }
    }
}

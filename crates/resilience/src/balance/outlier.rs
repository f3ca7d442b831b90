//! Backends that fail more than the others are left alone for a while.
//!
//! The rules are those of Envoy's outlier detection: too many errors in a row, too many in a row
//! that a gateway made (502, 503, 504, no connection), or a success rate far below that of the
//! others. Each further ejection lasts twice as long; whoever stays in is forgiven little by
//! little. Never more than a share of all are out, nor the last one.

#[cfg(all(test, not(loom)))]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};
use crate::time::Time;

/// Settings of [`Outliers`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierSettings {
    /// So many errors in a row eject; 0: never.
    pub consecutive_errors: u32,
    /// So many gateway errors in a row eject; 0: never.
    pub consecutive_gateway_errors: u32,
    /// A success rate far below that of the others ejects.
    pub success_rate: Option<SuccessRate>,
    /// How often success rates are compared.
    pub interval: Duration,
    /// How long the first ejection lasts.
    pub base_ejection: Duration,
    /// How long one lasts at most.
    pub max_ejection: Duration,
    /// So many of a hundred are out at most, but one may be where there are two; 0 to 100.
    pub max_ejected_percent: u8,
}

/// When a success rate is far below the others': below mean - `factor` × standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// Rates of fewer backends than these are not compared.
    pub minimum_hosts: u32,
    /// A backend with fewer calls in an interval is left out.
    pub minimum_calls: u32,
    /// 1.9 is usual.
    pub factor: f64,
}

/// Envoy's: five errors in a row, or 1.9 deviations below five others at least; 30 s, doubling to
/// 5 minutes; 10 % at most.
impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            consecutive_gateway_errors: 5,
            success_rate: Some(SuccessRate { minimum_hosts: 5, minimum_calls: 100, factor: 1.9 }),
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected_percent: 10,
        }
    }
}

/// How a backend answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Well.
    Success,
    /// With an error of its own, such as 500.
    Error,
    /// With one that a gateway makes: 502, 503, 504, a time-out, no connection.
    GatewayError,
}

/// Why a backend was ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// So many errors in a row.
    Errors(u32),
    /// So many gateway errors in a row.
    GatewayErrors(u32),
    /// Its success rate, from 0 to 1, and the least that the others' allow.
    SuccessRate {
        /// Its own.
        rate: f64,
        /// Mean less so many deviations.
        least: f64,
    },
}

/// A backend was ejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejected {
    /// Its number.
    pub host: usize,
    /// Until then.
    pub until: Time,
    /// Why.
    pub reason: Reason,
}

/// What is known of one backend. It outlives changes of the set that it is in.
#[derive(Debug, Default)]
pub struct Host {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    /// Of this interval: calls in the upper half of the word, successes in the lower.
    calls: AtomicU64,
    ejected_until_ns: AtomicU64,
    /// How often it was ejected, less what it was forgiven.
    ejections: AtomicU32,
}

/// A set of backends that are compared with each other. Answers are counted without a lock.
#[derive(Debug)]
pub struct Outliers {
    settings: OutlierSettings,
    hosts: Box<[Arc<Host>]>,
    next_sweep_ns: AtomicU64,
    /// Held by who ejects, so that two do not together eject more than may be.
    ejecting: Mutex<()>,
}

const CALL: u64 = 1 << 32;

impl Host {
    /// Whether it is out.
    #[inline]
    #[must_use]
    pub fn is_ejected(&self, now: Time) -> bool {
        now.as_ns() < self.ejected_until_ns.load(Ordering::Relaxed)
    }

    /// Takes the calls of the interval, and how many of them succeeded.
    fn take(&self) -> (u32, u32) {
        let calls = self.calls.swap(0, Ordering::Relaxed);
        ((calls >> 32) as u32, calls as u32)
    }
}

impl Outliers {
    /// A set of backends, with what is known of them.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: OutlierSettings, hosts: &[Arc<Host>]) -> Result<Self, Invalid> {
        let OutlierSettings { interval, base_ejection, max_ejection, max_ejected_percent, .. } =
            settings;
        check(!interval.is_zero(), "interval", &interval, "a time above 0")?;
        check(!base_ejection.is_zero(), "base_ejection", &base_ejection, "a time above 0")?;
        let longer = max_ejection >= base_ejection;
        check(longer, "max_ejection", &max_ejection, "at least `base_ejection`")?;
        let percent = max_ejected_percent;
        check(percent <= 100, "max_ejected_percent", &percent, "0 to 100")?;
        if let Some(SuccessRate { factor, .. }) = settings.success_rate {
            let number = factor.is_finite() && factor >= 0.0;
            check(number, "success_rate.factor", &factor, "a number of 0 and above")?;
        }
        let next_sweep_ns = AtomicU64::new(0);
        Ok(Self { settings, hosts: hosts.into(), next_sweep_ns, ejecting: Mutex::new(()) })
    }

    /// Counts an answer. Answers the ejection that it leads to.
    ///
    /// # Panics
    /// The set has no backend of that number.
    #[inline]
    pub fn record(&self, host: usize, now: Time, answer: Answer) -> Option<Ejected> {
        let known = &self.hosts[host];
        known.calls.fetch_add(CALL + u64::from(answer == Answer::Success), Ordering::Relaxed);
        if answer == Answer::Success {
            // Most of the time there is nothing to write.
            for errors in [&known.errors, &known.gateway_errors] {
                if errors.load(Ordering::Relaxed) > 0 {
                    errors.store(0, Ordering::Relaxed);
                }
            }
            return None;
        }
        self.record_error(host, now, answer == Answer::GatewayError)
    }

    #[cold]
    fn record_error(&self, host: usize, now: Time, gateway: bool) -> Option<Ejected> {
        let known = &self.hosts[host];
        let errors = known.errors.fetch_add(1, Ordering::Relaxed) + 1;
        let gateway_errors = if gateway {
            known.gateway_errors.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            known.gateway_errors.store(0, Ordering::Relaxed);
            0
        };
        let reached = |count: u32, most: u32| most > 0 && count >= most;
        let reason = if reached(gateway_errors, self.settings.consecutive_gateway_errors) {
            Reason::GatewayErrors(gateway_errors)
        } else if reached(errors, self.settings.consecutive_errors) {
            Reason::Errors(errors)
        } else {
            return None;
        };
        self.eject(host, now, reason)
    }

    /// Compares success rates when an interval is over, and tells of each ejection. To be called
    /// now and then; without it only errors in a row eject.
    pub fn sweep(&self, now: Time, mut ejected: impl FnMut(Ejected)) {
        let due = self.next_sweep_ns.load(Ordering::Relaxed);
        let next = (now + self.settings.interval).as_ns();
        let relaxed = Ordering::Relaxed;
        if now.as_ns() < due
            || self.next_sweep_ns.compare_exchange(due, next, relaxed, relaxed).is_err()
        {
            return;
        }
        // The first call only begins the first interval.
        if due == 0 {
            for host in &self.hosts {
                host.take();
            }
            return;
        }
        self.forgive(now);
        let calls: Vec<(u32, u32)> = self.hosts.iter().map(|host| host.take()).collect();
        let Some(success_rate) = self.settings.success_rate else { return };
        let Some(least) = success_rate.least(&calls) else { return };
        for (host, calls) in calls.iter().enumerate() {
            if let Some(rate) = success_rate.rate(*calls)
                && rate < least
            {
                let reason = Reason::SuccessRate { rate, least };
                self.eject(host, now, reason).into_iter().for_each(&mut ejected);
            }
        }
    }

    fn forgive(&self, now: Time) {
        for host in self.hosts.iter().filter(|host| !host.is_ejected(now)) {
            let ejections = host.ejections.load(Ordering::Relaxed);
            host.ejections.store(ejections.saturating_sub(1), Ordering::Relaxed);
        }
    }

    fn eject(&self, host: usize, now: Time, reason: Reason) -> Option<Ejected> {
        let _ejecting = lock(&self.ejecting);
        let known = &self.hosts[host];
        let out = self.hosts.iter().filter(|host| host.is_ejected(now)).count();
        if known.is_ejected(now) || out >= self.most_out() {
            return None;
        }
        let ejections = known.ejections.fetch_add(1, Ordering::Relaxed);
        let factor = 1_u32.checked_shl(ejections).unwrap_or(u32::MAX);
        let long = self.settings.base_ejection.saturating_mul(factor);
        let until = now + long.min(self.settings.max_ejection);
        known.errors.store(0, Ordering::Relaxed);
        known.gateway_errors.store(0, Ordering::Relaxed);
        known.ejected_until_ns.store(until.as_ns(), Ordering::Relaxed);
        Some(Ejected { host, until, reason })
    }

    fn most_out(&self) -> usize {
        let share = self.hosts.len() * usize::from(self.settings.max_ejected_percent) / 100;
        let one = usize::from(self.settings.max_ejected_percent > 0);
        share.max(one).min(self.hosts.len().saturating_sub(1))
    }
}

impl SuccessRate {
    fn rate(&self, (calls, successes): (u32, u32)) -> Option<f64> {
        let enough = calls >= self.minimum_calls.max(1);
        enough.then(|| f64::from(successes) / f64::from(calls))
    }

    /// The least rate that is not far below the others'; none when there are too few.
    fn least(&self, calls: &[(u32, u32)]) -> Option<f64> {
        let rates: Vec<f64> = calls.iter().filter_map(|calls| self.rate(*calls)).collect();
        if rates.is_empty() || rates.len() < self.minimum_hosts as usize {
            return None;
        }
        let count = rates.len() as f64;
        let mean = rates.iter().sum::<f64>() / count;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
        Some(mean - self.factor * variance.sqrt())
    }
}

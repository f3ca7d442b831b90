//! How many snapshots are given out at once: after an outage everybody wants all of them.

use std::time::Duration;

/// A bucket of bytes that fills with time.
#[derive(Clone, Debug)]
pub struct Admission {
    bytes_per_s: f64,
    most: f64,
    there: f64,
    at: Duration,
}

impl Admission {
    /// So many bytes a second, and as many at once as come in `burst`.
    #[must_use]
    pub fn new(bytes_per_s: u32, burst: Duration) -> Self {
        let bytes_per_s = f64::from(bytes_per_s.max(1));
        let most = bytes_per_s * burst.as_secs_f64();
        Self { bytes_per_s, most, there: most, at: Duration::ZERO }
    }

    /// Lets a snapshot through, or says how long to wait. One that is larger than the bucket goes
    /// when that is full: others wait the longer.
    ///
    /// # Errors
    /// With the time until the next one goes.
    pub fn admit(&mut self, now: Duration, bytes: usize) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.there = (self.there + passed.as_secs_f64() * self.bytes_per_s).min(self.most);
        let need = (bytes as f64).min(self.most);
        if self.there < need {
            let wait = Duration::from_secs_f64((need - self.there) / self.bytes_per_s);
            return Err(wait.max(Duration::from_millis(1)));
        }
        self.there -= bytes as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r13_no_more_goes_than_the_rate() {
        let mut admission = Admission::new(1000, Duration::from_secs(1));
        let second = Duration::from_secs;
        admission.admit(second(10), 600).unwrap();
        assert_eq!(admission.admit(second(10), 600), Err(Duration::from_millis(200)));
        admission.admit(second(11), 600).unwrap();
        // One that is larger than the bucket.
        assert_eq!(admission.admit(second(11), 5000), Err(Duration::from_millis(600)));
        admission.admit(second(12), 5000).unwrap();
        assert_eq!(admission.admit(second(12), 1000), Err(second(5)));
    }
}

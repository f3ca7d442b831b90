//! When too few are healthy, health says nothing.

/// Below so many percent of healthy backends all of them are called: the few would only be
/// overloaded, and it is more likely that what finds them unhealthy is wrong (Envoy's panic
/// threshold; 50 is usual, 0 never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panic {
    /// 0 to 100.
    pub below_percent: u8,
}

impl Default for Panic {
    fn default() -> Self {
        Self { below_percent: 50 }
    }
}

impl Panic {
    /// Whether all are to be called, healthy or not.
    #[must_use]
    pub fn applies(self, healthy: usize, all: usize) -> bool {
        healthy as u128 * 100 < all as u128 * u128::from(self.below_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_them_are_enough() {
        let panic = Panic::default();
        assert_eq!([4, 5, 6].map(|healthy| panic.applies(healthy, 10)), [true, false, false]);
        assert!(!panic.applies(0, 0));
        assert!(!Panic { below_percent: 0 }.applies(0, 10));
    }
}

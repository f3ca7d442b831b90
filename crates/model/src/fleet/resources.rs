use serde::{Deserialize, Serialize};

/// What a host has to give, or a replica takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of one processor.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

impl Resources {
    /// How many of `each` there is room for.
    #[must_use]
    pub fn fits(self, each: Self) -> u16 {
        let times = |have: u64, takes: u64| have.checked_div(takes).unwrap_or(u64::MAX);
        let both = times(self.cpu_millis, each.cpu_millis)
            .min(times(self.memory_bytes, each.memory_bytes));
        both.try_into().unwrap_or(u16::MAX)
    }

    /// What so many take.
    #[must_use]
    pub fn times(self, replicas: u16) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_mul(replicas.into()),
            memory_bytes: self.memory_bytes.saturating_mul(replicas.into()),
        }
    }

    /// What is left without it.
    #[must_use]
    pub fn without(self, taken: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(taken.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(taken.memory_bytes),
        }
    }

    /// What is taken of the scarcer of both when this is left of `capacity`, in thousandths.
    #[must_use]
    pub fn used_of(self, capacity: Self) -> u64 {
        let used = |left: u64, of: u64| {
            let taken = u128::from(of.saturating_sub(left)) * 1000;
            taken.checked_div(of.into()).map_or(0, |used| used.try_into().unwrap_or(u64::MAX))
        };
        used(self.cpu_millis, capacity.cpu_millis)
            .max(used(self.memory_bytes, capacity.memory_bytes))
    }
}

//! The probes of a half-open circuit.

use crate::time::Time;

/// What each of the calls that may probe does.
#[derive(Debug)]
pub(super) struct Probes(Box<[Probe]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Free,
    Out { lease: Time },
    Succeeded,
}

/// A probe did not report while its lease ran.
#[derive(Debug)]
pub(super) struct Lapse {
    pub(super) at: Time,
}

/// How many probes have succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    Some,
    All,
}

impl Probes {
    pub(super) fn new(count: u32) -> Self {
        Self(vec![Probe::Free; count as usize].into())
    }

    pub(super) fn begin(&mut self) {
        self.0.fill(Probe::Free);
    }

    /// Gives out a probe, if one is free.
    pub(super) fn take(&mut self, lease: Time) -> Option<u32> {
        let free = self.0.iter().position(|probe| *probe == Probe::Free)?;
        self.0[free] = Probe::Out { lease };
        Some(free as u32)
    }

    pub(super) fn give_back(&mut self, probe: u32) {
        self.set(probe, Probe::Free);
    }

    pub(super) fn succeed(&mut self, probe: u32) -> Report {
        self.set(probe, Probe::Succeeded);
        let all = self.0.iter().all(|probe| *probe == Probe::Succeeded);
        if all { Report::All } else { Report::Some }
    }

    /// A number that is none of these came from another circuit.
    fn set(&mut self, probe: u32, state: Probe) {
        if let Some(probe) = self.0.get_mut(probe as usize) {
            *probe = state;
        }
    }

    /// The first lease that has run out.
    pub(super) fn lapsed(&self, now: Time) -> Option<Lapse> {
        let leases = self.0.iter().filter_map(|probe| match probe {
            Probe::Out { lease } if now > *lease => Some(*lease),
            _ => None,
        });
        leases.min().map(|at| Lapse { at })
    }
}

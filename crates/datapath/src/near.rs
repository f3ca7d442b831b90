//! The copies of entries that the kernel programs find without a search: see [`sinew_abi::near`].
//!
//! The hashes are the truth. A copy is taken away before its entry changes and put back after, so
//! that a writer killed in between leaves a search more, never a wrong answer. One key has a place
//! until it goes; others that lead there are found in the hash.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{Ordering, fence},
};

use sinew_abi::{self as abi, capacity, near};

use crate::{Error, maps::Shared, sys};

/// Both kinds of copies.
pub(crate) struct Near {
    services: Shared<abi::NearService>,
    callers: Shared<abi::NearCaller>,
}

impl Near {
    /// Opens them and makes them agree with what the hashes hold. What agrees stays.
    pub(crate) fn open(
        maps: &Path,
        services: &[(abi::ServiceKey4, abi::Service)],
        callers: &[(u64, abi::Instance)],
    ) -> Result<Self, Error> {
        let mut near = Self {
            services: Shared::open(maps, "NEAR_SERVICES", capacity::NEAR_SERVICES)?,
            callers: Shared::open(maps, "NEAR_CALLERS", capacity::NEAR_CALLERS)?,
        };
        near.clear(&services.iter().copied().collect(), &callers.iter().copied().collect())?;
        for (key, value) in services {
            near.put_service(key, value);
        }
        for (cgroup, instance) in callers {
            near.put_caller(*cgroup, instance);
        }
        near.services.unmap();
        near.callers.unmap();
        Ok(near)
    }

    /// Takes away what is not as the hashes have it.
    fn clear(
        &mut self,
        services: &HashMap<abi::ServiceKey4, abi::Service>,
        callers: &HashMap<u64, abi::Instance>,
    ) -> Result<(), Error> {
        for index in 0..capacity::NEAR_SERVICES {
            let place = self.services.get(index).unwrap_or(abi::NearService::ZERO);
            let free = place.key == abi::ServiceKey4::ZERO;
            let here = near::service4(&place.key) == index;
            let agrees = free || (here && services.get(&place.key) == Some(&place.service));
            if place.turn & 1 != 0 || !agrees {
                self.write_service(index, &abi::ServiceKey4::ZERO, &abi::Service::ZERO)?;
            }
        }
        let mut cleared = false;
        for index in 0..capacity::NEAR_CALLERS {
            let place = self.callers.get(index).unwrap_or(abi::NearCaller::ZERO);
            let wanted = callers.get(&place.cgroup).map(|i| caller(place.cgroup, i));
            let agrees = near::caller(place.cgroup) == index && wanted == Some(place);
            if place.cgroup != 0 && !agrees {
                self.write_caller(index, &abi::NearCaller::ZERO)?;
                cleared = true;
            }
        }
        if cleared { forgotten() } else { Ok(()) }
    }

    /// Takes a service port's copy away; its entry may then change.
    pub(crate) fn remove_service(&mut self, key: &abi::ServiceKey4) -> Result<(), Error> {
        let index = near::service4(key);
        if self.services.get(index).is_none_or(|place| place.key == *key) {
            self.write_service(index, &abi::ServiceKey4::ZERO, &abi::Service::ZERO)?;
        }
        Ok(())
    }

    /// Copies an entry, unless its place is another's.
    pub(crate) fn put_service(&mut self, key: &abi::ServiceKey4, value: &abi::Service) {
        let index = near::service4(key);
        if self.services.get(index).is_some_and(|place| place.key == abi::ServiceKey4::ZERO)
            && let Err(error) = self.write_service(index, key, value)
        {
            tracing::debug!(%error, "callers of a service have to search");
        }
    }

    fn write_service(
        &mut self,
        index: u32,
        key: &abi::ServiceKey4,
        value: &abi::Service,
    ) -> Result<(), Error> {
        let place = self.services.place(index).ok_or_else(unmapped)?;
        // SAFETY: a place inside the mapping. The turn is odd while the rest is written, in this
        // order for every CPU.
        unsafe {
            let turn = &raw mut (*place).turn;
            let odd = turn.read_volatile() | 1;
            turn.write_volatile(odd);
            fence(Ordering::SeqCst);
            (&raw mut (*place).key).write_volatile(*key);
            (&raw mut (*place).service).write_volatile(*value);
            fence(Ordering::SeqCst);
            turn.write_volatile(odd.wrapping_add(1));
        }
        Ok(())
    }

    /// Takes a cgroup's copy away, unless it is what shall be copied; its entry may then change.
    pub(crate) fn remove_caller(
        &mut self,
        cgroup: u64,
        wanted: Option<&abi::Instance>,
    ) -> Result<(), Error> {
        let index = near::caller(cgroup);
        let place = self.callers.get(index).unwrap_or(abi::NearCaller::ZERO);
        if place.cgroup != cgroup || wanted.is_some_and(|i| caller(cgroup, i) == place) {
            return Ok(());
        }
        self.write_caller(index, &abi::NearCaller::ZERO)?;
        // The same cgroup gets another copy: nobody may hold half of this one.
        if wanted.is_some() { forgotten() } else { Ok(()) }
    }

    /// Copies what callers need of an instance, unless its place is another's.
    pub(crate) fn put_caller(&mut self, cgroup: u64, instance: &abi::Instance) {
        let index = near::caller(cgroup);
        if self.callers.get(index).is_some_and(|place| place.cgroup == 0)
            && let Err(error) = self.write_caller(index, &caller(cgroup, instance))
        {
            tracing::debug!(%error, "an instance is looked for when it calls");
        }
    }

    fn write_caller(&mut self, index: u32, value: &abi::NearCaller) -> Result<(), Error> {
        let place = self.callers.place(index).ok_or_else(unmapped)?;
        // SAFETY: a place inside the mapping. The cgroup is cleared first and set last, in this
        // order for every CPU.
        unsafe {
            let cgroup = &raw mut (*place).cgroup;
            cgroup.write_volatile(0);
            fence(Ordering::SeqCst);
            (&raw mut (*place).addr4).write_volatile(value.addr4);
            (&raw mut (*place).service).write_volatile(value.service);
            (&raw mut (*place).addr6).write_volatile(value.addr6);
            fence(Ordering::SeqCst);
            cgroup.write_volatile(value.cgroup);
        }
        Ok(())
    }
}

fn caller(cgroup: u64, instance: &abi::Instance) -> abi::NearCaller {
    let abi::Instance { addr4, addr6, service, .. } = *instance;
    abi::NearCaller { cgroup, addr4, service, addr6 }
}

/// Waits until no program holds what was taken away.
fn forgotten() -> Result<(), Error> {
    sys::grace_period().map_err(|e| Error::system("wait for a grace period", e))
}

/// Nothing may change while a copy of what was cannot be taken away.
fn unmapped() -> Error {
    Error::system("map copies of entries into memory", std::io::ErrorKind::OutOfMemory)
}

//! The copies of entries that the kernel programs find without a search: see [`sinew_abi::near`].
//!
//! The hashes are the truth. A copy is taken away before its entry changes and put back after, so
//! that a writer killed in between leaves a search more, never a wrong answer. One key has a place
//! until it goes; others that lead there are found in the hash.

use std::{
    path::Path,
    sync::atomic::{Ordering, fence},
};

use sinew_abi::{self as abi, capacity, near};

use crate::{Error, maps::Shared};

/// Both kinds of copies.
pub(crate) struct Near {
    services: Shared<abi::NearService>,
    callers: Shared<abi::NearCaller>,
}

impl Near {
    /// Opens them and makes them agree with what the hashes hold.
    pub(crate) fn open(
        maps: &Path,
        services: &[(abi::ServiceKey4, abi::Service)],
        callers: &[(u64, abi::Instance)],
    ) -> Result<Self, Error> {
        let mut near = Self {
            services: Shared::open(maps, "NEAR_SERVICES", capacity::NEAR_SERVICES)?,
            callers: Shared::open(maps, "NEAR_CALLERS", capacity::NEAR_CALLERS)?,
        };
        near.clear();
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

    fn clear(&mut self) {
        for index in 0..capacity::NEAR_SERVICES {
            let place = self.services.get(index).unwrap_or(abi::NearService::ZERO);
            if place.key != abi::ServiceKey4::ZERO || place.turn & 1 != 0 {
                self.write_service(index, &abi::ServiceKey4::ZERO, &abi::Service::ZERO);
            }
        }
        for index in 0..capacity::NEAR_CALLERS {
            if self.callers.get(index).is_some_and(|place| place.cgroup != 0) {
                self.write_caller(index, &abi::NearCaller::ZERO);
            }
        }
    }

    /// Takes a service port's copy away; its entry may then change.
    pub(crate) fn remove_service(&mut self, key: &abi::ServiceKey4) {
        let index = near::service4(key);
        if self.services.get(index).is_some_and(|place| place.key == *key) {
            self.write_service(index, &abi::ServiceKey4::ZERO, &abi::Service::ZERO);
        }
    }

    /// Copies an entry, unless its place is another's.
    pub(crate) fn put_service(&mut self, key: &abi::ServiceKey4, value: &abi::Service) {
        let index = near::service4(key);
        if self.services.get(index).is_some_and(|place| place.key == abi::ServiceKey4::ZERO) {
            self.write_service(index, key, value);
        }
    }

    fn write_service(&mut self, index: u32, key: &abi::ServiceKey4, value: &abi::Service) {
        let Some(place) = self.services.place(index) else { return };
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
    }

    /// Takes a cgroup's copy away.
    pub(crate) fn remove_caller(&mut self, cgroup: u64) {
        let index = near::caller(cgroup);
        if self.callers.get(index).is_some_and(|place| place.cgroup == cgroup) {
            self.write_caller(index, &abi::NearCaller::ZERO);
        }
    }

    /// Copies what callers need of an instance, unless its place is another's.
    pub(crate) fn put_caller(&mut self, cgroup: u64, instance: &abi::Instance) {
        let index = near::caller(cgroup);
        if self.callers.get(index).is_some_and(|place| place.cgroup == 0) {
            let (addr4, addr6) = (instance.addr4, instance.addr6);
            let service = instance.service;
            self.write_caller(index, &abi::NearCaller { cgroup, addr4, service, addr6 });
        }
    }

    fn write_caller(&mut self, index: u32, value: &abi::NearCaller) {
        let Some(place) = self.callers.place(index) else { return };
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
    }
}

//! A list of backends that does not change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_resilience::balance::{self, Load, OutlierSettings, Outliers};
use sinew_resilience::{Invalid, Time};

use super::{Backend, Backends, Outcome};

/// In which a latency loses half of its weight.
const DECAY: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Host {
    address: SocketAddr,
    load: Load,
    errors: Arc<balance::Host>,
}

/// Backends of a fixed list: the better of two by latency and load, without those that fail more
/// than the others.
#[derive(Debug)]
pub struct Fixed {
    hosts: Box<[Host]>,
    outliers: Outliers,
}

impl Fixed {
    /// These ones.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(addresses: &[SocketAddr], outliers: OutlierSettings) -> Result<Self, Invalid> {
        let errors: Vec<_> = addresses.iter().map(|_| Arc::default()).collect();
        let outliers = Outliers::new(outliers, &errors)?;
        let host = |(address, errors): (&SocketAddr, Arc<balance::Host>)| {
            Ok(Host { address: *address, load: Load::new(DECAY)?, errors })
        };
        let hosts = addresses.iter().zip(errors).map(host).collect::<Result<_, _>>()?;
        Ok(Self { hosts, outliers })
    }

    /// Those that may be chosen, by number.
    fn numbers(&self, now: Time, not: Option<u32>) -> impl Iterator<Item = usize> {
        let may = move |(number, host): &(usize, &Host)| {
            !host.errors.is_ejected(now) && not != Some(*number as u32)
        };
        self.hosts.iter().enumerate().filter(may).map(|(number, _)| number)
    }
}

impl Backends for Fixed {
    fn choose(&self, now: Time, draw: u64, last: Option<u32>) -> Option<Backend> {
        // Where all are out, or but the one that failed, one of all is better than none.
        let (count, of_all) = match self.numbers(now, last).count() {
            0 => (self.hosts.len(), true),
            count => (count, false),
        };
        let number = |nth| if of_all { Some(nth) } else { self.numbers(now, last).nth(nth) };
        let cost = |nth| {
            let host = number(nth).and_then(|number| self.hosts.get(number));
            host.map_or(f64::INFINITY, |host| host.load.cost(now))
        };
        let number = balance::p2c(count, draw, cost).and_then(number)?;
        let host = self.hosts.get(number)?;
        host.load.begin();
        Some(Backend { number: number as u32, address: host.address })
    }

    fn ended(&self, backend: u32, outcome: Option<Outcome>) {
        let number = backend as usize;
        let Some(host) = self.hosts.get(number) else { return };
        match outcome {
            Some(Outcome { at, latency, answer }) => {
                host.load.end(at, latency);
                self.outliers.record(number, at, answer);
                self.outliers.sweep(at, |_| {});
            }
            None => host.load.cancel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sinew_resilience::balance::Answer;
    use sinew_resilience::draw::Draws;

    use super::*;

    fn of(count: u8) -> Fixed {
        let addresses: Vec<SocketAddr> =
            (1..=count).map(|last| SocketAddr::from(([127, 0, 0, last], 80))).collect();
        let settings = OutlierSettings { max_ejected_percent: 100, ..Default::default() };
        Fixed::new(&addresses, settings).unwrap()
    }

    #[test]
    fn a_try_goes_elsewhere_than_the_one_that_failed() {
        let (fixed, mut draws) = (of(2), Draws::new(1));
        for _ in 0..20 {
            let chosen = fixed.choose(Time::ORIGIN, draws.draw(), Some(0)).unwrap();
            assert_eq!(chosen.number, 1);
            fixed.ended(1, None);
        }
        assert_eq!(of(1).choose(Time::ORIGIN, 7, Some(0)).unwrap().number, 0);
        assert_eq!(of(0).choose(Time::ORIGIN, 7, None), None);
    }

    #[test]
    fn one_that_fails_is_left_alone_and_its_load_is_given_back() {
        let (fixed, mut draws) = (of(3), Draws::new(1));
        let failed =
            Outcome { at: Time::ORIGIN, latency: Duration::ZERO, answer: Answer::GatewayError };
        for _ in 0..5 {
            while fixed.choose(Time::ORIGIN, draws.draw(), None).unwrap().number != 2 {}
            fixed.ended(2, Some(failed));
        }
        assert_eq!(fixed.hosts[2].load.in_flight(), 0);
        for _ in 0..50 {
            assert_ne!(fixed.choose(Time::ORIGIN, draws.draw(), None).unwrap().number, 2);
        }
    }
}

//! A contender and its baseline take turns in short slices.
//!
//! The machine drifts, and stands still now and then, by more than what is to be told apart.
//! Slices in the order A B B A see the same drift on both sides. Each pair of neighbours gives a
//! ratio, and a turn the median of its ratios, which a stop of the machine in one slice does not
//! move. That would hide too what a contender does now and then: the ratio of the sums shows it.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Pair, Side};
use crate::bench::load::Quantiles;
use crate::bench::load::slices::{Order, Slice, Work};
use crate::bench::report;

/// Of one turn.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    /// Slices of short connections, and of echo, that each side gets.
    pub(super) slices: usize,
    /// Of a slice of short connections; an echo needs hardly any.
    pub(super) lead_in: Duration,
    pub(super) short: Duration,
    pub(super) echo: Duration,
}

/// What both sides found.
pub(super) struct Turn {
    pub(super) contender: Found,
    pub(super) baseline: Found,
}

/// What one side found, slice by slice.
#[derive(Default)]
pub(super) struct Found {
    short: Vec<Slice>,
    echo: Vec<Slice>,
    seconds: f64,
}

impl Found {
    /// Short connections, over all slices.
    pub(super) fn per_second(&self) -> f64 {
        let connections: usize = self.short.iter().map(|slice| slice.total_ns.len()).sum();
        connections as f64 / self.seconds
    }

    fn short(&self) -> Quantiles {
        pooled(&self.short)
    }

    fn echo(&self) -> Quantiles {
        pooled(&self.echo)
    }
}

fn pooled(slices: &[Slice]) -> Quantiles {
    let mut samples: Vec<u32> = slices.iter().flat_map(|slice| &slice.total_ns).copied().collect();
    Quantiles::of(&mut samples)
}

impl Turn {
    pub(super) fn rate(&self) -> f64 {
        self.paired(|found| &found.short, |slice| slice.total_ns.len() as f64)
    }

    pub(super) fn rate_of_sums(&self) -> f64 {
        self.contender.per_second() / self.baseline.per_second()
    }

    pub(super) fn p50(&self) -> f64 {
        self.paired(|found| &found.short, p50)
    }

    /// Slices are too short for a tail each.
    pub(super) fn p99(&self) -> f64 {
        self.contender.short().p99_ns / self.baseline.short().p99_ns
    }

    pub(super) fn echo(&self) -> f64 {
        self.paired(|found| &found.echo, p50)
    }

    /// The median of the ratios of slices that stood side by side.
    fn paired(&self, slices: fn(&Found) -> &Vec<Slice>, value: fn(&Slice) -> f64) -> f64 {
        let pairs = slices(&self.contender).iter().zip(slices(&self.baseline));
        let ratios = pairs.map(|(contender, baseline)| value(contender) / value(baseline));
        // Where the machine stood still for both there is nothing to compare.
        let ratios: Vec<f64> = ratios.filter(|ratio| !ratio.is_nan()).collect();
        report::median(&ratios).unwrap_or(f64::NAN)
    }
}

fn p50(slice: &Slice) -> f64 {
    Quantiles::of(&mut slice.total_ns.clone()).p50_ns
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6.0} connections/s ({:.3}, sums {:.3})  p99 {:>5.0} us ({:.2})  echo {:>5.1} us \
             ({:.3})",
            self.contender.per_second(),
            self.rate(),
            self.rate_of_sums(),
            self.contender.short().p99_ns / 1e3,
            self.p99(),
            self.contender.echo().p50_ns / 1e3,
            self.echo(),
        )
    }
}

/// Which of two sides has the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Contender,
    Baseline,
}

/// So many slices of each side, A B B A; every other round begins with the other side.
fn order(round: usize, slices: usize) -> Vec<Which> {
    let pair = |number: usize| {
        if (round + number).is_multiple_of(2) {
            [Which::Baseline, Which::Contender]
        } else {
            [Which::Contender, Which::Baseline]
        }
    };
    (0..slices).flat_map(pair).collect()
}

/// Measures a contender and its baseline.
pub(super) fn measure(round: usize, pair: &Pair, lengths: Lengths) -> Result<Turn> {
    let mut turn = Turn { contender: Found::default(), baseline: Found::default() };
    let short = Order { work: Work::Short, lead_in: lengths.lead_in, length: lengths.short };
    for which in order(round, lengths.slices) {
        let (side, found) = turn.side(pair, which);
        found.short.push(slice(side, &short)?);
        found.seconds += lengths.short.as_secs_f64();
    }
    let rooms = [&pair.contender, &pair.baseline].map(|side| side.path.room());
    for room in rooms {
        room.pin(Some(other_cpu()))?;
    }
    let work = Work::Echo { cpu: 0 };
    let echo = Order { work, lead_in: lengths.echo / 4, length: lengths.echo };
    for which in order(round, lengths.slices) {
        let (side, found) = turn.side(pair, which);
        found.echo.push(slice(side, &echo)?);
    }
    for room in rooms {
        room.pin(None)?;
    }
    Ok(turn)
}

impl Turn {
    fn side<'p>(&mut self, pair: &'p Pair, which: Which) -> (&'p Side, &mut Found) {
        match which {
            Which::Contender => (&pair.contender, &mut self.contender),
            Which::Baseline => (&pair.baseline, &mut self.baseline),
        }
    }
}

fn slice(side: &Side, order: &Order) -> Result<Slice> {
    let slice = side.client.borrow_mut().work(order);
    slice.with_context(|| format!("a client of {} failed", side.path.targets()))
}

/// Client and server talk across cores, as they would if they were many.
fn other_cpu() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::from(cpus > 1)
}

#[cfg(test)]
mod tests {
    use super::Which::{Baseline, Contender};
    use super::*;

    fn found(slices: &[&[u32]]) -> Found {
        let slice = |samples: &&[u32]| Slice { total_ns: samples.to_vec(), ..Slice::default() };
        let short: Vec<Slice> = slices.iter().map(slice).collect();
        Found { seconds: short.len() as f64, short, echo: Vec::new() }
    }

    #[test]
    fn drift_is_seen_by_both_sides() {
        assert_eq!(order(0, 2), [Baseline, Contender, Contender, Baseline]);
        assert_eq!(order(1, 2), [Contender, Baseline, Baseline, Contender]);
        for round in 0..2 {
            let order = order(round, 8);
            let places = |side| (0..16).filter(|place| order[*place] == side).sum::<usize>();
            assert_eq!(places(Contender), places(Baseline));
        }
    }

    #[test]
    fn neighbours_are_compared_and_a_stop_of_the_machine_is_not() {
        let turn = Turn {
            contender: found(&[&[9, 9], &[], &[2, 4, 6]]),
            baseline: found(&[&[3, 3], &[], &[4, 4, 4]]),
        };
        assert_eq!(turn.rate(), 1.0);
        assert_eq!(turn.p50(), 2.0);
        let stopped =
            Turn { contender: found(&[&[1], &[], &[1]]), baseline: found(&[&[1], &[1, 1], &[1]]) };
        assert_eq!(stopped.rate(), 1.0);
        assert_eq!(stopped.rate_of_sums(), 0.5);
    }
}

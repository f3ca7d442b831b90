//! A circuit's state as one word: what it is forced to, its state, and until when or how often.

use super::{Forced, State};
use crate::time::Time;

/// Two bits for what is forced, two for the state, 60 for the time an open circuit sleeps until
/// (36 years of nanoseconds) or for the generation of another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

const FORCED: u64 = 0b11 << 62;
const FORCED_OPEN: u64 = 1 << 63;
const FORCED_CLOSED: u64 = 1 << 62;
const STATE: u64 = 0b11 << 60;
const CLOSED: u64 = 0;
const OPEN: u64 = 1 << 60;
const HALF_OPEN: u64 = 2 << 60;
const REST: u64 = (1 << 60) - 1;

impl Word {
    pub(super) fn closed(generation: u64) -> Self {
        Self(CLOSED | generation & REST)
    }

    pub(super) fn open(until: Time) -> Self {
        Self(OPEN | until.as_ns().min(REST))
    }

    pub(super) fn half_open(generation: u64) -> Self {
        Self(HALF_OPEN | generation & REST)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn with_forced(self, forced: Option<Forced>) -> Self {
        let bits = match forced {
            Some(Forced::Open) => FORCED_OPEN,
            Some(Forced::Closed) => FORCED_CLOSED,
            None => 0,
        };
        Self(self.0 & !FORCED | bits)
    }

    pub(super) fn forced(self) -> Option<Forced> {
        match self.0 & FORCED {
            0 => None,
            FORCED_CLOSED => Some(Forced::Closed),
            _ => Some(Forced::Open),
        }
    }

    pub(super) fn state(self) -> State {
        match self.0 & STATE {
            CLOSED => State::Closed,
            OPEN => State::Open,
            _ => State::HalfOpen,
        }
    }

    pub(super) fn is_closed(self) -> bool {
        self.0 & STATE == CLOSED
    }

    pub(super) fn open_until(self) -> Option<Time> {
        (self.0 & STATE == OPEN).then(|| Time::from_ns(self.0 & REST))
    }

    /// Whether nothing changed but what is forced.
    pub(super) fn is_same_state(self, other: Self) -> bool {
        self.0 & !FORCED == other.0 & !FORCED
    }
}

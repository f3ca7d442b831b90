//! Broken input for tests of what reads input: inputs that are right, changed here and there, and
//! some that never were. The same ones each time, unless `SINEW_FUZZ_SEED` says otherwise;
//! `SINEW_FUZZ_CASES` says how many.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const CASES: u64 = 3000;
/// Changes of one input: more of them leave little of it.
const CHANGES: u64 = 6;
/// Bytes that mean something to many readers.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xc0\xff\n\r\t \"'{}[]:,;&=%#$-.0123456789";

/// Small and fast, and good enough to change bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, as in Vigna's "An experimental exploration of Marsaglia's xorshift
        // generators, scrambled".
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }
}

/// Hands `check` many inputs made of `right` ones. A panic in it tells which one it was.
///
/// # Panics
/// When `check` does.
pub fn each(right: &[&[u8]], mut check: impl FnMut(&[u8])) {
    let seed = variable("SINEW_FUZZ_SEED").unwrap_or(1);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for case in 0..variable("SINEW_FUZZ_CASES").unwrap_or(CASES) {
        let input = input(&mut random, right);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            eprintln!("SINEW_FUZZ_SEED={seed}, case {case}: {}", input.escape_ascii());
            resume_unwind(panic);
        }
    }
}

/// The same as text; what is no text is made some.
///
/// # Panics
/// When `check` does.
pub fn each_text(right: &[&str], mut check: impl FnMut(&str)) {
    let right: Vec<&[u8]> = right.iter().map(|text| text.as_bytes()).collect();
    each(&right, |input| check(&String::from_utf8_lossy(input)));
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn input(random: &mut Random, right: &[&[u8]]) -> Vec<u8> {
    let mut input = match right.get(random.below(right.len() + 1)) {
        Some(right) => right.to_vec(),
        None => (0..random.below(600)).map(|_| random.next() as u8).collect(),
    };
    for _ in 0..random.next() % CHANGES {
        change(random, &mut input, right);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, right: &[&[u8]]) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(random.below(64));
    match random.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let other = right.get(random.below(right.len())).copied().unwrap_or_default();
            let from = random.below(other.len());
            input.splice(at..end, other[from..].iter().copied());
        }
        4 => {
            let noise: Vec<u8> = (0..random.below(32)).map(|_| random.next() as u8).collect();
            input.splice(at..end, noise);
        }
        5 => input.insert(at, TELLING[random.below(TELLING.len())]),
        6 if at < input.len() => input[at] = TELLING[random.below(TELLING.len())],
        _ if at < input.len() => input[at] ^= 1 << random.below(8),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_many_and_the_same_each_time() {
        let all = || {
            let mut all = Vec::new();
            each(&[b"hello, world", b"{}"], |input| all.push(input.to_vec()));
            all
        };
        let first = all();
        assert_eq!(first, all());
        let different: std::collections::BTreeSet<_> = first.iter().collect();
        assert!(different.len() > 1000, "{}", different.len());
        assert!(first.iter().any(|input| input == b"hello, world"));
    }

    #[test]
    #[should_panic(expected = "found")]
    fn a_fault_is_found() {
        each(&[b"{\"length\":5}"], |input| {
            assert!(!input.contains(&0xff), "found");
        });
    }
}

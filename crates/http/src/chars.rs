//! Which bytes may stand where, and how far they go.
//!
//! Values and targets are most of a head: they are looked at sixteen or eight bytes at a time, in
//! plain arithmetic on a `u64` (after "Determine if a word has a byte less than n" of Anderson's
//! "Bit Twiddling Hacks"). Names are short, and their bytes are looked up.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;
const STEP: usize = size_of::<u64>();
/// What every machine of today looks at in one instruction.
const WIDE: usize = 16;

/// Bytes of tokens: methods, names of fields, options (RFC 9110 section 5.6.2).
static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~", true);

const fn table(others: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = alphanumeric && (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// The lowest bit that is set tells the first byte below `n` (at most 128) exactly; bits above it
/// may be wrong.
const fn below(word: u64, n: u8) -> u64 {
    word.wrapping_sub(ONES * n as u64) & !word & HIGH
}

/// The same for bytes that are `n`.
const fn equal(word: u64, n: u8) -> u64 {
    below(word ^ (ONES * n as u64), 1)
}

/// Whether it is one token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_end(bytes, 0) == bytes.len()
}

/// The first byte from `from` on that is not of a token.
pub(crate) fn token_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    let is = |byte: u8| TOKEN[byte as usize];
    while let Some(&[a, b, c, d]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        if !(is(a) & is(b) & is(c) & is(d)) {
            break;
        }
        at += 4;
    }
    while bytes.get(at).is_some_and(|byte| is(*byte)) {
        at += 1;
    }
    at
}

/// Whether all of it may be the value of a field.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    value_end(bytes, 0) == bytes.len()
}

const fn in_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// The first byte from `from` on that is not of a field's value (RFC 9110 section 5.5: visible
/// characters, space, tab, and what is not ASCII).
pub(crate) fn value_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(next) = bytes.get(at..).and_then(|rest| rest.first_chunk::<WIDE>()) {
        // Compilers make a few instructions of it; where the hit is, the words tell.
        if next.iter().fold(false, |hit, byte| hit | (*byte < b' ') | (*byte == 0x7f)) {
            break;
        }
        at += WIDE;
    }
    while let Some(next) = bytes.get(at..).and_then(|rest| rest.first_chunk::<STEP>()) {
        let word = u64::from_le_bytes(*next);
        let hit = below(word, b' ') | equal(word, 0x7f);
        if hit == 0 {
            at += STEP;
            continue;
        }
        at += hit.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    while bytes.get(at).is_some_and(|byte| in_value(*byte)) {
        at += 1;
    }
    at
}

const fn in_target(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && byte != b'#'
}

/// The first byte from `from` on that is not of a request target: visible ASCII without `#`.
/// Some of it a URI may not hold either (`"<>\^{|}` and backquotes), but programs send it, and it
/// has one meaning only.
pub(crate) fn target_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(next) = bytes.get(at..).and_then(|rest| rest.first_chunk::<STEP>()) {
        let word = u64::from_le_bytes(*next);
        let hit = below(word, b'!') | equal(word, 0x7f) | equal(word, b'#') | (word & HIGH);
        if hit != 0 {
            return at + hit.trailing_zeros() as usize / 8;
        }
        at += STEP;
    }
    while bytes.get(at).is_some_and(|byte| in_target(*byte)) {
        at += 1;
    }
    at
}

/// Without spaces and tabs around it.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(bytes: &[u8], from: usize, may: impl Fn(u8) -> bool) -> usize {
        bytes[from..].iter().position(|byte| !may(*byte)).map_or(bytes.len(), |at| from + at)
    }

    #[test]
    fn each_byte_at_each_place_of_a_word_is_told_from_the_others() {
        for byte in 0..=255 {
            for at in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[at] = byte;
                assert_eq!(value_end(&bytes, 0), first(&bytes, 0, in_value), "{byte} at {at}");
                assert_eq!(target_end(&bytes, 0), first(&bytes, 0, in_target), "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn words_say_what_bytes_say(bytes: Vec<u8>, from in 0_usize..8) {
            let from = from.min(bytes.len());
            prop_assert_eq!(value_end(&bytes, from), first(&bytes, from, in_value));
            prop_assert_eq!(target_end(&bytes, from), first(&bytes, from, in_target));
        }
    }
}

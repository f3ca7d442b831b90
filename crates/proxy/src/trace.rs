//! The traceparent of W3C Trace Context: each request has a trace that upstreams can log, whether
//! or not its client began one.

use sinew_resilience::draw::Draws;

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const BYTES: usize = 55;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Whether a value is one that means something. Later versions may be longer.
pub(crate) fn is_valid(value: &[u8]) -> bool {
    let Some((now, later)) = value.split_at_checked(BYTES) else { return false };
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let some = |part: &[u8]| hex(part) && part.iter().any(|byte| *byte != b'0');
    let parts = [now[2], now[35], now[52]] == [b'-'; 3];
    let version = &now[..2];
    let longer = later.is_empty() || (version != b"00" && later[0] == b'-');
    parts
        && longer
        && hex(version)
        && version != b"ff"
        && some(&now[3..35])
        && some(&now[36..52])
        && hex(&now[53..])
}

/// The begin of a trace, which nobody has decided to record.
pub(crate) fn begin(draws: &mut Draws) -> [u8; BYTES] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    digits(&mut text[3..19], draws.draw());
    digits(&mut text[19..35], draws.draw());
    // One of all zeros would be none.
    digits(&mut text[36..52], draws.draw().max(1));
    if text[3..35].iter().all(|digit| *digit == b'0') {
        text[34] = b'1';
    }
    text
}

fn digits(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_recommendation_calls_valid_is_valid() {
        let right = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_valid(right.as_bytes()));
        assert!(is_valid(format!("01{}-later", &right[2..]).as_bytes()));
        for wrong in [
            "",
            &right[1..],
            &right.to_uppercase(),
            &format!("ff{}", &right[2..]),
            &format!("{right}-later"),
            &right.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &right.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &right.replace("-01", "-0g"),
            &right.replace("-01", "_01"),
        ] {
            assert!(!is_valid(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_trace_begins_with_a_valid_one_and_another_each_time() {
        let mut draws = Draws::new(1);
        let (one, other) = (begin(&mut draws), begin(&mut draws));
        assert!(is_valid(&one) && is_valid(&other) && one != other);
    }
}

//! Durations, sizes and shares of a processor, as people write them.

use std::{fmt::Write, time::Duration};

use crate::problem::{Expected, ValueError};

/// The longest duration taken anywhere: sums of it and a clock never overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Powers of 1024 throughout, as in systemd and compose files. `MB` is refused, for half of its
/// users mean 10^6.
const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KIB", 1 << 10),
    ("M", 1 << 20),
    ("MIB", 1 << 20),
    ("G", 1 << 30),
    ("GIB", 1 << 30),
    ("T", 1 << 40),
    ("TIB", 1 << 40),
];

/// Reads `500ms`, `2s`, `1.5s`, `1m30s`; a lone `0` too.
///
/// # Errors
/// When `text` is not a duration of whole milliseconds, or one too long for the type.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let millis = if text == "0" { Some(0) } else { duration_millis(text) };
    millis.map(Duration::from_millis).ok_or_else(|| ValueError::new(text, Expected::Duration))
}

fn duration_millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        // Units fall from one part to the next: `30s1m` is a slip.
        if *factor >= smallest {
            return None;
        }
        smallest = *factor;
        total = total.checked_add(scaled(number, *factor)?)?;
        rest = next;
    }
    (smallest != u64::MAX).then_some(total)
}

/// Writes what [`parse_duration`] reads: `1m30s`, `1s500ms`, `0s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS.iter().rev() {
        if rest >= *factor {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{unit}", rest / factor);
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `256MiB`, `256M`, `1.5g` or a number of bytes; powers of 1024.
///
/// # Errors
/// When `text` is not a size of whole bytes, or one too large for the type.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let (number, unit) = split_number(text);
    let unit = unit.trim_start().to_ascii_uppercase();
    SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .and_then(|(_, factor)| scaled(number, *factor))
        .ok_or_else(|| ValueError::new(text, Expected::Size))
}

/// Writes what [`parse_size`] reads, in the largest unit that holds it whole: `256MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(factor, _)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Reads processors: `2`, `0.5` or, in thousandths, `500m`. The result is in thousandths.
///
/// # Errors
/// When `text` is not a number of whole thousandths, or one too large for the type.
pub fn parse_cpu(text: &str) -> Result<u32, ValueError> {
    let (number, unit) = split_number(text);
    let millis = match unit {
        "" => scaled(number, 1000),
        "m" => scaled(number, 1),
        _ => None,
    };
    millis
        .and_then(|millis| u32::try_from(millis).ok())
        .ok_or_else(|| ValueError::new(text, Expected::Cpu))
}

/// Writes what [`parse_cpu`] reads: `2`, `500m`.
#[must_use]
pub fn format_cpu(millis: u32) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// A decimal times a factor, when the product is whole: floats would round what people wrote.
fn scaled(decimal: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = whole.parse::<u64>().ok()?;
    let value = u128::from(parts) * tenths + u128::from(fraction.parse::<u64>().ok()?);
    let product = value * u128::from(factor);
    product.is_multiple_of(tenths).then(|| u64::try_from(product / tenths).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "1 s",
            "-1s",
            "1us",
            "30s1m",
            "1s1s",
            "1..5s",
            ".5s",
            "1.s",
            "0.0001s",
            "99999999999999999999s",
            "5000000000000d",
            "1s\u{e9}",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{text:?} is not a duration; write it with units, such as 500ms, 2s or 1m30s"
                )
            );
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("1k", 1024),
            ("256MiB", 256 << 20),
            ("256M", 256 << 20),
            ("256m", 256 << 20),
            ("1.5g", 1536 << 20),
            ("1 GiB", 1 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "M", "256MB", "-1", "1.0000001B", "0x10", "99999999999T", "1 G iB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_read() {
        for (text, millis) in
            [("2", 2000), ("0.5", 500), ("500m", 500), ("0.001", 1), ("1.25", 1250)]
        {
            assert_eq!(parse_cpu(text), Ok(millis), "{text}");
        }
        for text in ["", "m", "0.0001", "0.5m", "half", "-1", "99999999999"] {
            assert!(parse_cpu(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(n in 0_u64..=u64::from(u32::MAX), cpu in any::<u32>()) {
            let duration = Duration::from_millis(n);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(n)), Ok(n));
            prop_assert_eq!(parse_size(&format_size(n << 20)), Ok(n << 20));
            prop_assert_eq!(parse_cpu(&format_cpu(cpu)), Ok(cpu));
        }

        #[test]
        fn no_text_makes_them_panic(text in "\\PC*", number in "[0-9.]{0,30}(ms|s|m|MiB|)") {
            for text in [text, number] {
                let _ = (parse_duration(&text), parse_size(&text), parse_cpu(&text));
            }
        }
    }
}

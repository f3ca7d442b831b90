//! Times and amounts as people say them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `now`, `41s ago`, `3m ago`, `2h ago`, `5d ago`. What lies ahead (the clock was set back) is `now`.
pub(crate) fn ago(at_ms: u64, now_ms: u64) -> String {
    let past = Duration::from_millis(now_ms.saturating_sub(at_ms));
    if past < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", short(past)) }
}

/// `41s`, `3m`, `2h`, `5d`: the largest unit alone.
pub(crate) fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `350 us`, `1.2 ms`, `2.5 s`.
pub(crate) fn micros(micros: u32) -> String {
    let value = f64::from(micros);
    match micros {
        0..1000 => format!("{micros} us"),
        1000..1_000_000 => format!("{:.1} ms", value / 1e3),
        _ => format!("{:.1} s", value / 1e6),
    }
}

/// `2025-11-21T10:00:00.123Z`.
pub(crate) fn utc(at_ms: u64) -> String {
    let (days, of_day) = (at_ms / 86_400_000, at_ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, ms) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day, so many days after 1970-01-01, of the Gregorian calendar. Years begin in
/// March here, so that a leap day ends one.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_400_YEARS: u64 = 146_097;
    let since_0000_03_01 = days + 719_468;
    let (era, of_era) = (since_0000_03_01 / DAYS_400_YEARS, since_0000_03_01 % DAYS_400_YEARS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// `17 B`, `1.5 KiB`, `3.0 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // 53 bits are enough for one decimal.
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The clock, milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = 1_000_000_000;
        for (past_ms, text) in [
            (0, "now"),
            (999, "now"),
            (1000, "1s ago"),
            (59_999, "59s ago"),
            (60_000, "1m ago"),
            (3_599_999, "59m ago"),
            (3_600_000, "1h ago"),
            (86_400_000, "1d ago"),
        ] {
            assert_eq!(ago(now - past_ms, now), text);
        }
        assert_eq!(ago(now + 5000, now), "now");
    }

    #[test]
    fn dates() {
        const DAY: u64 = 86_400_000;
        for (at_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000 - 1, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_782_400_000 + DAY, "2000-03-01T00:00:00.000Z"),
            (1_763_719_200_123, "2025-11-21T10:00:00.123Z"),
            (4_107_456_000_000, "2100-02-28T00:00:00.000Z"),
            (4_107_456_000_000 + DAY, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(at_ms), text);
        }
    }

    #[test]
    fn amounts() {
        assert_eq!((micros(350), micros(1234)), ("350 us".to_owned(), "1.2 ms".to_owned()));
        assert_eq!(micros(2_500_000), "2.5 s");
        assert_eq!((bytes(17), bytes(1536)), ("17 B".to_owned(), "1.5 KiB".to_owned()));
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }
}

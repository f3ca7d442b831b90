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
    fn amounts() {
        assert_eq!((micros(350), micros(1234)), ("350 us".to_owned(), "1.2 ms".to_owned()));
        assert_eq!(micros(2_500_000), "2.5 s");
        assert_eq!((bytes(17), bytes(1536)), ("17 B".to_owned(), "1.5 KiB".to_owned()));
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }
}

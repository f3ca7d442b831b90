//! The `Retry-After` header: seconds, or a date (RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The pause that a `Retry-After` asks for, given the calendar's time; none when it says nothing
/// that is understood. A date that has passed asks for no pause.
#[must_use]
pub fn parse(value: &[u8], now: SystemTime) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too great for the type is a pause too long for anybody.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = date(value, now)?;
    let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

/// Seconds from 1970 to an HTTP date (RFC 9110, 5.6.7), in any of its three forms.
fn date(value: &str, now: SystemTime) -> Option<i64> {
    match value.split_once(',') {
        // Sun, 06 Nov 1994 08:49:37 GMT
        Some((weekday, rest)) if weekday.len() == 3 => {
            is_one_of(weekday, &WEEKDAYS)?;
            let [day, month, year, time] = words(rest.strip_suffix(" GMT")?)?;
            seconds(number(year, 4)?, month, number(day, 2)?, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        Some((weekday, rest)) => {
            weekday.get(..3).and_then(|short| is_one_of(short, &WEEKDAYS))?;
            let [date, time] = words(rest.strip_suffix(" GMT")?)?;
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            if parts.next().is_some() {
                return None;
            }
            seconds(near(number(year, 2)?, now)?, month, number(day, 2)?, time)
        }
        // Sun Nov  6 08:49:37 1994
        None => {
            let [weekday, month, day, time, year] = words(value)?;
            is_one_of(weekday, &WEEKDAYS)?;
            seconds(number(year, 4)?, month, number(day, day.len().clamp(1, 2))?, time)
        }
    }
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn is_one_of(word: &str, words: &[&str]) -> Option<usize> {
    words.iter().position(|known| *known == word)
}

/// So many words, and no more.
fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut words = text.split_ascii_whitespace();
    let mut found = [""; N];
    for word in &mut found {
        *word = words.next()?;
    }
    words.next().is_none().then_some(found)
}

fn number(digits: &str, len: usize) -> Option<i64> {
    let plain = digits.len() == len && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The year of two digits that is no more than 50 years ahead.
fn near(digits: i64, now: SystemTime) -> Option<i64> {
    let days = now.duration_since(UNIX_EPOCH).ok()?.as_secs() / 86_400;
    let this = 1970 + i64::try_from(days).ok()? * 400 / 146_097;
    let year = this - this.rem_euclid(100) + digits;
    Some(if year > this + 50 { year - 100 } else { year })
}

fn seconds(year: i64, month: &str, day: i64, time: &str) -> Option<i64> {
    let month = is_one_of(month, &MONTHS)? as i64 + 1;
    let mut parts = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // A leap second is 60.
    let within = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !within || parts.next().is_some() {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01, by years that begin in March: the leap day is their last (Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn seconds_are_taken_as_they_are() {
        for (value, pause) in [("0", 0), ("120", 120), (" 7\t", 7)] {
            assert_eq!(parse(value.as_bytes(), at(5)), Some(Duration::from_secs(pause)));
        }
        let endless = parse(b"99999999999999999999999", at(5));
        assert_eq!(endless, Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn the_three_forms_of_the_rfc_name_one_second() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let pause = parse(date.as_bytes(), at(784_111_777 - 10));
            assert_eq!(pause, Some(Duration::from_secs(10)), "{date}");
            assert_eq!(parse(date.as_bytes(), at(784_111_778)), Some(Duration::ZERO), "{date}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_the_near_one() {
        let now = at(1_700_000_000);
        assert_eq!(
            (near(24, now), near(73, now), near(74, now)),
            (Some(2024), Some(2073), Some(1974))
        );
    }

    #[test]
    fn what_is_neither_says_nothing() {
        for value in [
            "",
            "-1",
            "1.5",
            "soon",
            "1 2",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Xun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94-1 08:49:37 GMT",
            "Sun Nov 6 08:49:37:00 1994",
            "Sun, 06 Nov 1994 +8:49:37 GMT",
            "é, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(parse(value.as_bytes(), at(5)), None, "{value}");
        }
        assert_eq!(parse(b"\xff", at(5)), None);
    }

    /// By counting the days of every month since 1970.
    fn naive_days(year: i64, month: i64, day: i64) -> i64 {
        let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        let len = |year, month| match month {
            2 => 28 + leap(year),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let years: i64 = (1970..year).map(|year| 365 + leap(year)).sum();
        years + (1..month).map(|month| len(year, month)).sum::<i64>() + day - 1
    }

    proptest! {
        #[test]
        fn days_are_what_a_calendar_counts(year in 1970..2500_i64, month in 1..=12_i64, day in 1..=28_i64) {
            prop_assert_eq!(days(year, month, day), naive_days(year, month, day));
        }

        #[test]
        fn nothing_that_is_sent_breaks_it(value in prop::collection::vec(any::<u8>(), 0..40), text in ".{0,40}") {
            let _ = parse(&value, at(5));
            let _ = parse(text.as_bytes(), at(5));
        }

        #[test]
        fn nothing_like_a_date_breaks_it(text in "(Sun|Sunday|é)?,? ?[0-9A-Za-z -]{0,12}[ -][0-9]{0,5} [0-9:]{0,9}( GMT)?") {
            let _ = parse(text.as_bytes(), at(5));
        }
    }
}

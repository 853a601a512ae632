//! The clock, and its times as text. Times are in milliseconds since 1970 (UTC).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime::{format_rfc3339_millis, format_rfc3339_seconds};

/// The end of the year 9999, the last one that has four digits.
const LAST: u64 = 253_402_300_799_999;

/// The present time. Zero if the clock stands before 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

/// For people: date and time, UTC.
pub fn utc(ms: u64) -> String {
    format_rfc3339_seconds(time(ms)).to_string().replace('T', " ").replace('Z', " UTC")
}

/// For programs: RFC 3339, with milliseconds.
pub fn rfc3339(ms: u64) -> String {
    format_rfc3339_millis(time(ms)).to_string()
}

fn time(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_795_455_392, "2026-11-23 17:36:32 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds * 1000), text);
        }
        assert_eq!(utc(u64::MAX), "9999-12-31 23:59:59 UTC");
        assert_eq!(rfc3339(951_782_399_007), "2000-02-28T23:59:59.007Z");
    }
}

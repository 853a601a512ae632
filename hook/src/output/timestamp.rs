//! A moment as text. Milliseconds are since 1970.

/// For people: date and time, UTC.
pub fn utc(ms: u64) -> String {
    let (date, time) = date_and_time(ms / 1000);
    format!("{date} {time} UTC")
}

/// For programs: RFC 3339, with milliseconds.
pub fn rfc3339(ms: u64) -> String {
    let (date, time) = date_and_time(ms / 1000);
    format!("{date}T{time}.{:03}Z", ms % 1000)
}

fn date_and_time(seconds: u64) -> (String, String) {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from a March 1st, since the day that leap years add is then a year's last. 719,468 days
    // are between 0000-03-01 and 1970-01-01, and 400 years have 146,097.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (format!("{year:04}-{month:02}-{date:02}"), format!("{hour:02}:{minute:02}:{second:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_date() {
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
    }
}

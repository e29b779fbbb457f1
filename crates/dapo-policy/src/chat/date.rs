//! The date a template may ask for.

use super::budget::spend;
use minijinja::{Error, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment, in UTC, in the given `strftime` format.
pub(super) fn strftime(format: &str, unix_seconds: Option<u64>) -> Result<String, Error> {
    // What a code tells is at most a few times longer than the code.
    spend(format.len().saturating_mul(8))?;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let seconds = unix_seconds.unwrap_or_else(now);
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day, day_of_year) = civil(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[((days + 4) % 7) as usize]);
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut code = letters.next();
        let plain = code == Some('-');
        if plain {
            code = letters.next();
        }
        let padded = |n: u64, width: usize| if plain { n.to_string() } else { format!("{n:0width$}") };
        let told = match code {
            Some('Y') => year.to_string(),
            Some('y') => padded(year % 100, 2),
            Some('m') => padded(month, 2),
            Some('d') => padded(day, 2),
            Some('e') => format!("{day:2}"),
            Some('j') => padded(day_of_year, 3),
            Some('H') => padded(hour, 2),
            Some('I') => padded(half, 2),
            Some('M') => padded(minute, 2),
            Some('S') => padded(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            code => {
                let code = code.map_or_else(String::new, String::from);
                let message = format!("strftime_now: the code %{code} is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        };
        text.push_str(&told);
    }
    Ok(text)
}

/// Year, month, day and day of the year (all but the first from 1) of a number of days since 1970.
fn civil(mut days: u64) -> (u64, u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // 400 years are 146097 days, so the loops below stay short for any moment.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let day_of_year = days + 1;
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, day_of_year)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::strftime;

    #[test]
    fn tells_dates_as_python_does() {
        let format = "%d %b %Y|%A %B %-d|%H:%M:%S %I %p|%j %y %F %T %%";
        crate::chat::budget::start(0);
        let told = |seconds| strftime(format, Some(seconds)).unwrap();
        assert_eq!(told(0), "01 Jan 1970|Thursday January 1|00:00:00 12 AM|001 70 1970-01-01 00:00:00 %");
        assert_eq!(told(951_868_799), "29 Feb 2000|Tuesday February 29|23:59:59 11 PM|060 00 2000-02-29 23:59:59 %");
        assert_eq!(told(1_798_718_400), "31 Dec 2026|Thursday December 31|12:00:00 12 PM|365 26 2026-12-31 12:00:00 %");
        assert!(strftime("%Q", Some(0)).is_err());
    }
}

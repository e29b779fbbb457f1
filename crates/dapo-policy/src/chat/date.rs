//! The date a template may ask for.

use super::budget::spend;
use chrono::DateTime;
use chrono::format::{Fixed, Item, Numeric, StrftimeItems};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in UTC, in the given `strftime` format, as Python writes it.
pub(super) fn strftime(format: &str, unix_seconds: Option<u64>) -> Result<String, Error> {
    // What a code tells is at most twelve times longer than the code.
    spend(format.len().saturating_mul(16))?;
    let invalid = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let seconds = i64::try_from(unix_seconds.unwrap_or_else(now)).ok();
    let moment = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let moment = moment.ok_or_else(|| invalid("the moment is too far away"))?.naive_utc();
    let items = StrftimeItems::new(format);
    if !items.clone().all(|item| is_of_python(&item)) {
        return Err(invalid(&format!("{format:?} has a code that is not supported")));
    }
    let mut text = String::new();
    write!(text, "{}", moment.format_with_items(items)).map_err(|_| invalid("the moment cannot be written"))?;
    Ok(text)
}

/// Whether Python knows a code and writes the same for it. Zones are left out: its moment has none.
fn is_of_python(item: &Item<'_>) -> bool {
    match item {
        Item::Numeric(number, _) => !matches!(number, Numeric::Nanosecond | Numeric::Quarter),
        Item::Fixed(name) => matches!(
            name,
            Fixed::ShortMonthName
                | Fixed::LongMonthName
                | Fixed::ShortWeekdayName
                | Fixed::LongWeekdayName
                | Fixed::LowerAmPm
                | Fixed::UpperAmPm
        ),
        Item::Error => false,
        _ => true,
    }
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
        // What the codes tell that are seldom used, by Python 3 with glibc.
        let format = "%U %W %V %G %g %u %w %C|%D %R %r %c|%x %X %h %k %l %P %s|%-m %-y %_d %-e %-I %-j|%n%t";
        for (seconds, expected) in [
            (
                0,
                "00 00 01 1970 70 4 4 19|01/01/70 00:00 12:00:00 AM Thu Jan  1 00:00:00 1970|\
                 01/01/70 00:00:00 Jan  0 12 am 0|1 70  1 1 12 1|\n\t",
            ),
            (
                951_868_799,
                "09 09 09 2000 00 2 2 20|02/29/00 23:59 11:59:59 PM Tue Feb 29 23:59:59 2000|\
                 02/29/00 23:59:59 Feb 23 11 pm 951868799|2 0 29 29 11 60|\n\t",
            ),
            (
                1_798_718_400,
                "52 52 53 2026 26 4 4 20|12/31/26 12:00 12:00:00 PM Thu Dec 31 12:00:00 2026|\
                 12/31/26 12:00:00 Dec 12 12 pm 1798718400|12 26 31 31 12 365|\n\t",
            ),
        ] {
            assert_eq!(strftime(format, Some(seconds)).unwrap(), expected);
        }
        for other in ["%Q", "%", "%-", "%f", "%q", "%z", "%Z", "%+", "%.3f", "%5d"] {
            let error = strftime(other, Some(0)).unwrap_err().to_string();
            assert!(error.contains("a code that is not supported"), "{other}: {error}");
        }
        assert!(strftime("%Y", Some(u64::MAX)).is_err());
    }
}

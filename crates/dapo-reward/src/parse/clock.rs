//! Times of day: `9:05`, `3:30 p.m.`, `15:45:10`.

use super::cursor::Cursor;
use super::half_day::half_of_day;
use super::lexer::Kind;
use crate::expr::{Expr, Half, Time};

/// What a text says about the half of the day that an hour is in, when it says nothing else.
fn half_named(text: &str, hour: u8) -> Option<Half> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '~');
    match text {
        "in the morning" => Some(Half::Morning),
        "noon" | "at noon" => (hour == 12).then_some(Half::Afternoon),
        "midnight" | "at midnight" => (hour == 12).then_some(Half::Morning),
        "at night" | "in the night" | "tonight" if hour == 12 || hour < 5 => Some(Half::Morning),
        "at night" | "in the night" | "tonight" | "in the afternoon" | "in the evening" => Some(Half::Afternoon),
        _ => half_of_day(text).filter(|(_, length)| *length == text.len()).map(|(half, _)| half),
    }
}

impl<'a> Cursor<'a> {
    /// A time of day at the cursor: two digits below 60 after the colon, or a part with a leading zero, or `a.m.`, `p.m.`.
    pub(super) fn clock(&mut self) -> Option<Expr> {
        let start = self.position();
        let time = self.clock_parts();
        if time.is_none() {
            self.rewind(start);
        }
        time
    }

    fn clock_parts(&mut self) -> Option<Expr> {
        let mut parts = vec![self.clock_part()?];
        while parts.len() < 3 && self.peek() == Some(Kind::Symbol(':')) {
            self.next();
            parts.push(self.clock_part()?);
        }
        let value = |part: &str| part.parse::<u8>().ok();
        let hour = value(parts[0])?;
        let half = match self.peek() {
            Some(Kind::Text(text) | Kind::Word(text)) => half_named(text, hour),
            _ => None,
        };
        if half.is_some() {
            self.next();
        }
        let rest = parts[1..].iter().map(|part| value(part)).collect::<Option<Vec<u8>>>()?;
        let is_written_as_time = parts[1..].iter().all(|part| part.len() == 2) && rest.iter().all(|part| *part < 60);
        let has_zero = parts.iter().any(|part| part.len() == 2 && part.starts_with('0'));
        let is_time = match (parts.len(), half) {
            (1, half) => half.is_some(),
            (_, Some(_)) => is_written_as_time,
            (2, None) => is_written_as_time && (hour <= 24 || has_zero),
            (_, None) => is_written_as_time && has_zero,
        };
        let fits = half.is_none() || hour <= 12 || (hour <= 24 && half == Some(Half::Afternoon));
        let ends = match self.peek() {
            None => true,
            Some(Kind::Symbol(c)) => matches!(c, ',' | ';' | ')' | ']' | '}' | '=' | '.'),
            Some(kind) => matches!(kind, Kind::CloseSet | Kind::NewRow | Kind::Text(_)),
        };
        (is_time && fits && ends).then(|| {
            Expr::Time(Time {
                hour,
                minute: rest.first().copied().unwrap_or(0),
                second: rest.get(1).copied().unwrap_or(0),
                half,
            })
        })
    }

    fn clock_part(&mut self) -> Option<&'a str> {
        match self.peek() {
            Some(Kind::Number(text)) if text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.next();
                Some(text)
            }
            _ => None,
        }
    }
}

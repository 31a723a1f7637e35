use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::{Object, Value};

/// A point in time, with the methods of Go's `time.Time` that templates use.
#[derive(Clone, Debug)]
pub struct Time(pub Zoned);

impl Time {
    /// The time `millis` milliseconds after the Unix epoch, in UTC; `None` outside the years -9999 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis).ok().map(|t| Self(t.to_zoned(TimeZone::UTC)))
    }

    /// Formats by a Go layout: the reference time `Mon Jan 2 15:04:05 MST 2006` written as wished.
    pub fn format(&self, layout: &str) -> String {
        let mut out = String::new();
        let mut rest = layout;
        'text: while !rest.is_empty() {
            for (pattern, piece) in PIECES {
                if let Some(after) = rest.strip_prefix(pattern) {
                    out.push_str(&self.piece(*piece));
                    rest = after;
                    continue 'text;
                }
            }
            if let Some((text, after)) = self.fraction(rest) {
                out.push_str(&text);
                rest = after;
                continue;
            }
            let c = rest.chars().next().unwrap_or_default();
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
        out
    }

    /// `.000` prints that many digits, `.999` without trailing zeros; only right after seconds or a point.
    fn fraction<'a>(&self, rest: &'a str) -> Option<(String, &'a str)> {
        let body = rest.strip_prefix(['.', ','])?;
        let digit = body.chars().next().filter(|c| *c == '0' || *c == '9')?;
        let count = body.len() - body.trim_start_matches(digit).len();
        if body[count..].starts_with(|c: char| c.is_ascii_digit()) || count > 9 {
            return None;
        }
        let digits = format!("{:09}", self.0.subsec_nanosecond());
        let mut shown = digits[..count].to_owned();
        if digit == '9' {
            shown.truncate(shown.trim_end_matches('0').len());
        }
        let text = if shown.is_empty() { String::new() } else { format!("{}{shown}", &rest[..1]) };
        Some((text, &body[count..]))
    }

    fn piece(&self, piece: Piece) -> String {
        let t = &self.0;
        let hour12 = match t.hour() % 12 {
            0 => 12,
            h => h,
        };
        let month = MONTHS[(t.month() - 1) as usize];
        let weekday = WEEKDAYS[t.weekday().to_sunday_zero_offset() as usize];
        let offset = t.offset().seconds();
        let signed = |separator: &str| {
            let minutes = offset.abs() / 60;
            format!("{}{:02}{separator}{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
        };
        match piece {
            Piece::Year4 => format!("{:04}", t.year()),
            Piece::Year2 => format!("{:02}", t.year().rem_euclid(100)),
            Piece::MonthName => month.to_owned(),
            Piece::MonthShort => month[..3].to_owned(),
            Piece::Month2 => format!("{:02}", t.month()),
            Piece::Month => t.month().to_string(),
            Piece::WeekdayName => weekday.to_owned(),
            Piece::WeekdayShort => weekday[..3].to_owned(),
            Piece::Day2 => format!("{:02}", t.day()),
            Piece::DaySpace => format!("{:2}", t.day()),
            Piece::Day => t.day().to_string(),
            Piece::YearDay => format!("{:03}", t.day_of_year()),
            Piece::Hour24 => format!("{:02}", t.hour()),
            Piece::Hour12Two => format!("{hour12:02}"),
            Piece::Hour12 => hour12.to_string(),
            Piece::Minute2 => format!("{:02}", t.minute()),
            Piece::Minute => t.minute().to_string(),
            Piece::Second2 => format!("{:02}", t.second()),
            Piece::Second => t.second().to_string(),
            Piece::UpperHalf => if t.hour() < 12 { "AM" } else { "PM" }.to_owned(),
            Piece::LowerHalf => if t.hour() < 12 { "am" } else { "pm" }.to_owned(),
            Piece::ZoneName if offset == 0 => "UTC".to_owned(),
            Piece::ZoneName => t.strftime("%Z").to_string(),
            Piece::Zulu if offset == 0 => "Z".to_owned(),
            Piece::ZuluPlain if offset == 0 => "Z".to_owned(),
            Piece::Zulu | Piece::OffsetColon => signed(":"),
            Piece::ZuluPlain | Piece::Offset => signed(""),
            Piece::OffsetHours => signed("")[..3].to_owned(),
        }
    }
}

#[derive(Clone, Copy)]
enum Piece {
    Year4,
    Year2,
    MonthName,
    MonthShort,
    Month2,
    Month,
    WeekdayName,
    WeekdayShort,
    Day2,
    DaySpace,
    Day,
    YearDay,
    Hour24,
    Hour12Two,
    Hour12,
    Minute2,
    Minute,
    Second2,
    Second,
    UpperHalf,
    LowerHalf,
    ZoneName,
    Zulu,
    ZuluPlain,
    OffsetColon,
    Offset,
    OffsetHours,
}

/// Longer patterns stand before those they start with.
const PIECES: &[(&str, Piece)] = &[
    ("January", Piece::MonthName),
    ("Jan", Piece::MonthShort),
    ("Monday", Piece::WeekdayName),
    ("Mon", Piece::WeekdayShort),
    ("MST", Piece::ZoneName),
    ("2006", Piece::Year4),
    ("-07:00", Piece::OffsetColon),
    ("-0700", Piece::Offset),
    ("-07", Piece::OffsetHours),
    ("Z07:00", Piece::Zulu),
    ("Z0700", Piece::ZuluPlain),
    ("002", Piece::YearDay),
    ("01", Piece::Month2),
    ("02", Piece::Day2),
    ("03", Piece::Hour12Two),
    ("04", Piece::Minute2),
    ("05", Piece::Second2),
    ("06", Piece::Year2),
    ("_2", Piece::DaySpace),
    ("15", Piece::Hour24),
    ("PM", Piece::UpperHalf),
    ("pm", Piece::LowerHalf),
    ("1", Piece::Month),
    ("2", Piece::Day),
    ("3", Piece::Hour12),
    ("4", Piece::Minute),
    ("5", Piece::Second),
];

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
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Object for Time {
    fn get(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let int = |value: i64| Ok(Value::Int(value));
        let t = &self.0;
        Some(match (name, args) {
            ("Unix", []) => int(t.timestamp().as_second()),
            ("UnixMilli", []) => int(t.timestamp().as_millisecond()),
            ("Year", []) => int(t.year().into()),
            ("Month", []) => Ok(Value::from(MONTHS[(t.month() - 1) as usize])),
            ("Day", []) => int(t.day().into()),
            ("YearDay", []) => int(t.day_of_year().into()),
            ("Hour", []) => int(t.hour().into()),
            ("Minute", []) => int(t.minute().into()),
            ("Second", []) => int(t.second().into()),
            ("Nanosecond", []) => int(t.subsec_nanosecond().into()),
            ("Weekday", []) => Ok(Value::from(WEEKDAYS[t.weekday().to_sunday_zero_offset() as usize])),
            ("IsZero", []) => Ok(Value::Bool(t.year() == 1 && t.day_of_year() == 1 && t.hour() == 0)),
            ("String", []) => Ok(Value::from(self.display())),
            ("UTC", []) => Ok(Value::Object(std::sync::Arc::new(Self(t.with_time_zone(TimeZone::UTC))))),
            ("Local", []) => Ok(Value::Object(std::sync::Arc::new(Self(t.with_time_zone(TimeZone::system()))))),
            ("Format", [layout]) => Ok(Value::from(self.format(&layout.to_string()))),
            _ => return None,
        })
    }

    fn display(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }

    fn type_name(&self) -> &'static str {
        "time.Time"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_gos() {
        let time = Time::from_millis(1_435_781_451_781).unwrap();
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z07:00", "2015-07-01T20:10:51Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Wed, 01 Jul 2015 20:10:51 UTC"),
            ("Monday January _2 3:04PM", "Wednesday July  1 8:10PM"),
            ("15:04:05.000", "20:10:51.781"),
            ("15:04:05.999999", "20:10:51.781"),
            ("06/1/2 -0700 002", "15/7/1 +0000 182"),
        ] {
            assert_eq!(time.format(layout), expected, "{layout}");
        }
        assert_eq!(time.display(), "2015-07-01 20:10:51.781 +0000 UTC");
        assert_eq!(Time::from_millis(0).unwrap().display(), "1970-01-01 00:00:00 +0000 UTC");
    }
}

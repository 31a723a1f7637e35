//! Functions of the calendar, in UTC.

use super::Evaluator;
use super::frame::{Frame, Row};
use crate::QueryError;
use crate::ast::Call;

/// A day of the Gregorian calendar.
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

/// The date of a day counted from 1970-01-01.
fn date(days: i64) -> Date {
    // years are counted from March, so that the leap day is the last of a year; 400 of them always have as many days
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let in_era = days.rem_euclid(146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Seconds after which days, months and days of the week come again in the same order: 400 years.
const CYCLE: i64 = 146_097 * 86_400;

/// One of the date functions, of any float. What is no number of 64 bits counts as 2^63 seconds, as it does for Prometheus.
fn compute_float(function: &str, value: f64) -> f64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&value) {
        return compute(function, value as i64);
    }
    let result = compute(function, (i64::MAX % CYCLE) + 1);
    if function == "year" { result + (i64::MAX / CYCLE * 400) as f64 } else { result }
}

/// One of the date functions, of seconds since 1970.
fn compute(function: &str, seconds: i64) -> f64 {
    let days = seconds.div_euclid(86_400);
    let in_day = seconds.rem_euclid(86_400);
    let Date { year, month, day } = date(days);
    let value = match function {
        "minute" => in_day / 60 % 60,
        "hour" => in_day / 3600,
        "day_of_week" => (days + 4).rem_euclid(7),
        "day_of_month" => day,
        "day_of_year" => (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + day,
        "days_in_month" => days_in_month(year, month),
        "month" => month,
        _ => year,
    };
    value as f64
}

impl Evaluator<'_> {
    pub(super) fn date_function(&self, call: &Call) -> Result<Frame, QueryError> {
        let name = call.function.name;
        let Some(arg) = call.args.first() else {
            let mut row = Row::new(model::Labels::empty(), false, self.steps.count);
            for (step, time) in self.steps.times().enumerate() {
                row.set_float(step, compute(name, time / 1000));
            }
            return self.query.frame_of(row);
        };
        let frame = self.vector(arg)?;
        self.map_floats(frame, |_, value| compute_float(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        for (seconds, expected) in [
            (0, [1970.0, 1.0, 1.0, 4.0, 1.0, 31.0, 0.0, 0.0]),
            (1_136_239_445, [2006.0, 1.0, 2.0, 1.0, 2.0, 31.0, 22.0, 4.0]),
            (1_456_790_399, [2016.0, 2.0, 29.0, 1.0, 60.0, 29.0, 23.0, 59.0]),
            (1_483_191_420, [2016.0, 12.0, 31.0, 6.0, 366.0, 31.0, 13.0, 37.0]),
            (-1, [1969.0, 12.0, 31.0, 3.0, 365.0, 31.0, 23.0, 59.0]),
        ] {
            let names =
                ["year", "month", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute"];
            assert_eq!(names.map(|name| compute(name, seconds)), expected, "{seconds}");
        }
    }

    /// The last second of 64 bits is 15:30:07 of Sunday, 4 December 292277026596; one later comes what no calendar reaches.
    #[test]
    fn what_is_no_time_is_the_end_of_time() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            let names = ["year", "month", "day_of_month", "day_of_week", "hour", "minute"];
            let expected = [292_277_026_596.0, 12.0, 4.0, 0.0, 15.0, 30.0];
            assert_eq!(names.map(|name| compute_float(name, value)), expected, "{value}");
        }
        assert_eq!(compute_float("minute", 3e17), 20.0);
    }
}

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC.
pub type Timestamp = i64;

/// The wall clock now.
pub fn now_millis() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// RFC 3339 with as many fraction digits as needed up to milliseconds (`2026-11-22T10:00:00.5Z`), as Go prints a time in UTC.
pub fn format_rfc3339_millis(timestamp: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(timestamp) {
        Ok(t) => t.to_string(),
        Err(_) => format!("{timestamp}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc3339() {
        assert_eq!(format_rfc3339_millis(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_rfc3339_millis(1_435_781_451_781), "2015-07-01T20:10:51.781Z");
    }
}

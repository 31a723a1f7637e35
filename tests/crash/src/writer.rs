use std::collections::BTreeMap;

use harness::{Series, send};

use crate::{now, samples};

/// Series that are written together, named `sent{series="0"}` and so on.
pub const SERIES: usize = 4;

/// Sends numbered samples by remote write and remembers which were acknowledged.
#[derive(Debug, Default)]
pub struct Writer {
    last_time: i64,
    number: u64,
    /// Numbers by time that must be there.
    pub acknowledged: BTreeMap<i64, u64>,
    /// Numbers by time that were sent; they may be there.
    pub sent: BTreeMap<i64, u64>,
}

impl Writer {
    /// Sends one sample of each series, with the time of now. Says whether it was acknowledged, or why not.
    ///
    /// # Errors
    /// With the status and text when the server refuses.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn send(&mut self, base: &str) -> Result<(), (u16, String)> {
        self.number += 1;
        self.last_time = now().max(self.last_time + 1);
        let (time, number) = (self.last_time, self.number);
        let label = |name: &str, value: String| (name.to_owned(), value);
        let series = |at: usize| Series {
            labels: vec![label("__name__", "sent".into()), label("series", at.to_string())],
            samples: vec![(time, (number * SERIES as u64 + at as u64) as f64)],
            histograms: Vec::new(),
        };
        let all: Vec<Series> = (0..SERIES).map(series).collect();
        self.sent.insert(time, number);
        let answer = send(base, &all);
        if answer.status == 204 {
            self.acknowledged.insert(time, number);
            return Ok(());
        }
        Err((answer.status, answer.body))
    }

    /// Checks that all acknowledged samples from `since` on are there, with their values, and no sample that was never sent;
    /// returns how many there are.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check(&self, base: &str, since: i64) -> usize {
        let mut count = 0;
        for series in 0..SERIES {
            let found = samples(base, &format!("sent{{series=\"{series}\"}}"));
            assert!(found.is_sorted_by(|a, b| a.0 < b.0), "series {series}: a time twice");
            let value = |number: u64| (number * SERIES as u64 + series as u64) as f64;
            for (time, found) in &found {
                let sent = self.sent.get(time).map(|number| value(*number));
                assert_eq!(Some(*found), sent, "series {series} at {time}: never sent");
            }
            let times: std::collections::HashSet<i64> = found.iter().map(|(time, _)| *time).collect();
            let missing: Vec<_> = self.acknowledged.range(since..).filter(|(time, _)| !times.contains(*time)).collect();
            assert!(
                missing.is_empty(),
                "series {series}: {} acknowledged samples are missing, the first of them {:?} and {:?} the last; now {}",
                missing.len(),
                missing.first(),
                missing.last(),
                now(),
            );
            count += found.len();
        }
        count
    }
}

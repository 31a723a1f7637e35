//! Settings of the file that are read when the server starts, and not at a reload.

use super::Config;

/// Those that differ between the configuration in force and a new one.
pub(crate) fn changed(old: &Config, new: &Config) -> Vec<&'static str> {
    let storage = |config: &Config| {
        let storage = &config.storage;
        (storage.retention_time, storage.retention_size, storage.retention_percentage)
    };
    let differ = [
        ("storage.tsdb.out_of_order_time_window", {
            old.storage.out_of_order_time_window != new.storage.out_of_order_time_window
        }),
        ("storage.tsdb.retention", storage(old) != storage(new)),
        ("storage.exemplars", old.storage.max_exemplars != new.storage.max_exemplars),
        (
            "global.evaluation_interval as the step of subqueries without one",
            old.global.evaluation_interval != new.global.evaluation_interval,
        ),
    ];
    differ.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::LoadOptions;
    use super::*;

    #[test]
    fn what_waits_for_the_next_start_is_named() {
        let config = |text: &str| Config::parse(text, Path::new("p"), PathBuf::new(), LoadOptions::default()).unwrap();
        let old = config("");
        for (text, expected) in [
            ("global: {scrape_interval: 7s}", &[][..]),
            ("storage: {tsdb: {out_of_order_time_window: 1h}}", &["storage.tsdb.out_of_order_time_window"]),
            ("storage: {tsdb: {retention: {time: 1d}}}", &["storage.tsdb.retention"]),
            ("storage: {tsdb: {retention: {percentage: 5}}}", &["storage.tsdb.retention"]),
            ("storage: {exemplars: {max_exemplars: 5}}", &["storage.exemplars"]),
            (
                "global: {evaluation_interval: 7s}",
                &["global.evaluation_interval as the step of subqueries without one"],
            ),
        ] {
            assert_eq!(changed(&old, &config(text)), expected, "{text}");
        }
    }
}

use tsdb::Options;

/// A store whose blocks are so long and stay so, all of which is done when a test asks for it.
pub(crate) fn short_blocks(length: i64) -> Options {
    Options {
        background: false,
        min_block_duration: length,
        max_block_duration: length,
        retention_duration: None,
        ..Options::default()
    }
}

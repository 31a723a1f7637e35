//! Folders that tests open databases in.

/// A folder in memory if there is one: every start of a database fsyncs.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

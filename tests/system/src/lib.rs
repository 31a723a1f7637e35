//! Tests across daemons; see the `tests` folder.

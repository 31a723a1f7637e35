//! The store's files: what does not decode is damaged and said to be; nothing panics or takes memory without bound.

use std::fs;
use std::path::Path;

use model::{Histogram, Labels, Matcher};
use tsdb::{Db, HistogramSample, Options, formats};

use crate::{Target, kind_of};

pub(crate) const LOG_RECORD: Target = Target {
    name: "log_record",
    run: |input| rewritten(input, formats::rewrite_log_record),
    words: &[],
    seeds: records,
};
pub(crate) const LOG_SEGMENT: Target = Target { name: "log_segment", run: log_segment, words: &[], seeds: records };
pub(crate) const HEAD_IMAGE: Target = Target { name: "head_image", run: head_image, words: &[], seeds: images };
pub(crate) const COLUMNS: Target = Target { name: "columns", run: columns, words: &[], seeds: column_seeds };
pub(crate) const BLOCK: Target = Target { name: "block", run: block, words: &[], seeds: || vec![built().pages] };
pub(crate) const BLOCK_META: Target = Target {
    name: "block_meta",
    run: |input| rewritten(input, formats::rewrite_meta),
    words: &["\"ulid\":", "\"minTime\":", "-9223372036854775808", "null", "1e400", "{", "}", "[]"],
    seeds: || vec![built().meta],
};
pub(crate) const TOMBSTONES: Target = Target {
    name: "tombstones",
    run: |input| {
        // with its right checksum, and as it is
        let mut sealed = b"FWTOMBS1".to_vec();
        sealed.extend_from_slice(input);
        sealed.extend_from_slice(&crc32fast::hash(&sealed).to_le_bytes());
        rewritten(&sealed, formats::rewrite_tombstones) * 2 + rewritten(input, formats::rewrite_tombstones)
    },
    words: &[],
    seeds: || vec![built().tombstones],
};

/// What decodes is encoded to bytes that decode to the same.
fn rewritten(input: &[u8], rewrite: impl Fn(&[u8]) -> Option<Vec<u8>>) -> u64 {
    let Some(written) = rewrite(input) else { return 0 };
    let again = rewrite(&written).expect("what we have written ourselves");
    assert_eq!(again, written);
    1 + written.len().min(500) as u64
}

fn columns(input: &[u8]) -> u64 {
    let Some((rows, bytes)) = input.split_first_chunk::<2>() else { return 0 };
    let rows = usize::from(u16::from_le_bytes(*rows)) % 9000;
    let kinds = [formats::rewrite_timestamps, formats::rewrite_floats, formats::rewrite_histograms];
    kinds.iter().fold(0, |kinds, rewrite| kinds * 512 + rewritten(bytes, |bytes| rewrite(bytes, rows)))
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn options() -> Options {
    Options { background: false, max_exemplars: 100, ..Options::default() }
}

/// Opens a folder, reads all that is there, writes, and opens it again: what was written is there.
fn use_folder(dir: &Path) -> u64 {
    let db = Db::open(dir, options()).expect("damaged files are no reason not to start");
    let before = read_all(&db);
    let labels = Labels::from_pairs([("__name__", "written_after")]);
    let newest = db.metrics().head_max_time;
    let time = if newest == i64::MIN { 0 } else { newest.saturating_add(1) };
    let write = || {
        let mut appender = db.appender();
        let series = appender.series(&labels).ok()?;
        appender.append(series, time, 42.0).ok()?;
        Some(appender.commit().expect("a good disk").floats == 1)
    };
    let taken = write() == Some(true);
    drop(db);
    let db = Db::open(dir, options()).expect("damaged files are no reason not to start");
    if taken {
        let selection = db.select(&[Matcher::equal("__name__", "written_after")], time, time).expect("an answer");
        let samples = selection.read(0..selection.labels().len(), time, time).expect("the head's samples");
        assert!(samples.iter().any(|s| s.floats.values == [42.0]), "a sample written at {time} is lost");
    }
    tsdb::verify(dir).expect("a folder that can be read");
    before
}

fn read_all(db: &Db) -> u64 {
    let selection = db.select(&[], i64::MIN, i64::MAX).expect("an answer");
    let mut kinds = selection.warnings().first().map_or(0, |warning| kind_of(warning));
    for at in 0..selection.labels().len() {
        let outcome = match selection.read_raw(at..at + 1, i64::MIN, i64::MAX) {
            Ok(samples) => {
                assert!(samples[0].floats.timestamps.is_sorted());
                1 + samples[0].floats.len().min(100) as u64
            }
            Err(error) => kind_of(&error.to_string()),
        };
        kinds = kinds.wrapping_mul(31).wrapping_add(outcome);
    }
    for name in db.label_names(&[], i64::MIN, i64::MAX, None).expect("names").values.iter() {
        let values = db.label_values(name, &[], i64::MIN, i64::MAX, None).expect("values").values;
        kinds = kinds.wrapping_add(values.len() as u64);
    }
    kinds
}

/// The input is a record with its right checksum, and then the raw end of the segment.
fn log_segment(input: &[u8]) -> u64 {
    let dir = scratch();
    let wal = dir.path().join("firewatch/wal");
    fs::create_dir_all(&wal).expect("a folder");
    fs::write(wal.join("00000001"), formats::log_segment(1, input, input)).expect("a file");
    use_folder(dir.path())
}

/// The input is the records of an image, each behind its length; checksums are right. The chunks it refers to are there.
fn head_image(input: &[u8]) -> u64 {
    thread_local! {
        static CHUNKS: Vec<u8> = head().1;
    }
    let mut records = Vec::new();
    let mut rest = input;
    while let Some((len, more)) = rest.split_first_chunk::<2>() {
        let (record, more) = more.split_at(usize::from(u16::from_le_bytes(*len)).min(more.len()));
        records.push(record.to_vec());
        rest = more;
    }
    let dir = scratch();
    let folder = dir.path().join("firewatch");
    fs::create_dir_all(folder.join("head")).expect("a folder");
    fs::create_dir_all(folder.join("wal")).expect("a folder");
    fs::write(folder.join("wal/00000001"), formats::log_segment(1, &[], &[])).expect("a file");
    fs::write(folder.join("head/image.00000001"), formats::image(1, &records)).expect("a file");
    CHUNKS.with(|chunks| fs::write(folder.join("head/00000001"), chunks)).expect("a file");
    use_folder(dir.path())
}

/// The records of an image of a small head with all that a head can have, and the chunks it refers to.
fn head() -> (Vec<Vec<u8>>, Vec<u8>) {
    let dir = scratch();
    let db = Db::open(dir.path(), Options { out_of_order_window: 3_600_000, ..options() }).expect("a database");
    for row in 0..150i64 {
        let mut appender = db.appender();
        let series = |name: &str| Labels::from_pairs([("__name__", name), ("instance", "a:1")]);
        let refs = ["up", "requests_total"].map(|name| appender.series(&series(name)).expect("a series"));
        appender.append_row(row * 1000, &refs, &[1.0, row as f64 * 1.5]);
        // these have timestamps of their own
        for (at, name) in (0..).zip(["a", "b", "c"]) {
            let own = appender.series(&series(name)).expect("a series");
            appender.append(own, row * 600_000 + at * 7 + 1, row as f64).expect("a sample");
        }
        let latency = appender.series(&series("latency")).expect("a series");
        let histogram = Histogram { count: 3, sum: row as f64, ..Histogram::default() };
        let _ = appender.append_histogram(latency, row * 1000, HistogramSample::Integer(histogram.into()));
        let alone = appender.series(&series("alone")).expect("a series");
        let _ = appender.append_with_start(alone, 500, row * 1000 + 7 * (row % 3), row as f64);
        let _ = appender.append(refs[0], row * 1000 - 500, 0.5);
        appender.commit().expect("a commit");
    }
    db.delete(&[Matcher::equal("__name__", "alone")], 0, 9_000).expect("a deletion");
    db.close().expect("an image");
    let head = dir.path().join("firewatch/head");
    let image = fs::read_dir(&head).expect("a folder").flatten().find(|e| e.file_name() != "00000001");
    let records = formats::image_records(&image.expect("an image").path()).expect("a good file");
    (records, fs::read(head.join("00000001")).expect("chunks"))
}

fn images() -> Vec<Vec<u8>> {
    let record = |record: &Vec<u8>| [&(record.len() as u16).to_le_bytes()[..], record].concat();
    vec![head().0.iter().flat_map(record).collect()]
}

struct Built {
    /// The payloads of index and data, the length of the first before them.
    pages: Vec<u8>,
    meta: Vec<u8>,
    tombstones: Vec<u8>,
    /// The payloads of its records.
    log: Vec<Vec<u8>>,
    name: String,
}

/// A small block with all that a block can have, and the log from before it was cut.
fn built() -> Built {
    let dir = scratch();
    let db = Db::open(dir.path(), options()).expect("a database");
    for row in 0..40i64 {
        let mut appender = db.appender();
        let series = |name: &str| Labels::from_pairs([("__name__", name), ("instance", "a:1")]);
        let refs = ["up", "requests_total"].map(|name| appender.series(&series(name)).expect("a series"));
        appender.append_row(row * 600_000, &refs, &[1.0, row as f64 * 1.5]);
        let latency = appender.series(&series("latency")).expect("a series");
        let histogram = Histogram { count: 3, sum: row as f64, ..Histogram::default() };
        let _ = appender.append_histogram(latency, row * 600_000, HistogramSample::Integer(histogram.into()));
        appender.commit().expect("a commit");
    }
    let log = formats::log_records(&dir.path().join("firewatch/wal/00000001")).expect("a log");
    db.maintain().expect("blocks");
    db.delete(&[Matcher::equal("__name__", "up")], 0, 1_000_000).expect("a deletion");
    let block = dir.path().join("firewatch/blocks").join(db.blocks()[0].ulid.to_string());
    let part = |name: &str| formats::read_pages(&block.join(name)).expect("a good file");
    let (index, data) = (part("index"), part("data"));
    let mut pages = (index.len() as u16).to_le_bytes().to_vec();
    pages.extend(index);
    pages.extend(data);
    let file = |name: &str| fs::read(block.join(name)).expect("a file");
    let tombstones = file("tombstones");
    // without magic and checksum, which the target adds
    let tombstones = tombstones[8..tombstones.len() - 4].to_vec();
    Built { pages, meta: file("meta.json"), tombstones, log, name: db.blocks()[0].ulid.to_string() }
}

/// The input is a block's index and data, in front of which stands the length of the index; checksums are right.
fn block(input: &[u8]) -> u64 {
    thread_local! {
        static BUILT: Built = built();
    }
    let Some((len, rest)) = input.split_first_chunk::<2>() else { return 0 };
    let (index, data) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
    let dir = scratch();
    BUILT.with(|built| {
        let block = dir.path().join("firewatch/blocks").join(&built.name);
        fs::create_dir_all(&block).expect("a folder");
        fs::write(block.join("meta.json"), &built.meta).expect("a file");
        formats::write_pages(&block.join("index"), index).expect("a file");
        formats::write_pages(&block.join("data"), data).expect("a file");
    });
    use_folder(dir.path())
}

fn records() -> Vec<Vec<u8>> {
    let mut payloads = built().log;
    payloads.truncate(3);
    payloads
}

fn column_seeds() -> Vec<Vec<u8>> {
    let with_rows = |rows: u16, bytes: &[u8]| [&rows.to_le_bytes()[..], bytes].concat();
    let (regular, constant) = ([1, 0, 200], [0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    let mut seeds = vec![
        with_rows(5, &regular),
        with_rows(5, &constant),
        with_rows(3, &[0, 1, 2, 4, 0, 6]),
        with_rows(3, &[1, 2, 1, 2, 4]),
        with_rows(3, &[2, 57, 64, 0, 0]),
    ];
    // each encoding of floats by what it is best for, from the plainest one
    let shapes: [fn(u32) -> f64; 5] = [
        |row| f64::from(row) * 1.5,
        |row| f64::from(row).sqrt(),
        |row| f64::from(row / 50),
        |row| f64::from(row * row % 97) / 100.0,
        |row| f64::from_bits(u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    ];
    for shape in shapes {
        let mut column = vec![2];
        let mut before = 0;
        for bits in (0..200).map(|row| shape(row).to_bits()) {
            // eight significant bytes of an XOR, or none
            if bits == before {
                column.push(0);
            } else {
                column.push(8);
                column.extend_from_slice(&(bits ^ before).to_le_bytes());
            }
            before = bits;
        }
        let best = formats::rewrite_floats(&column, 200).expect("a good column");
        seeds.extend([with_rows(20, &column[..60]), with_rows(200, &best)]);
    }
    seeds
}

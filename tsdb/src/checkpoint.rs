//! Checkpoints: what old segments of the log say besides samples that are in blocks, so that these segments can go.

use model::{Labels, Timestamp};

use crate::engine::Engine;
use crate::error::{FileError, MaintainError};
use crate::follow::LogPosition;
use crate::head::LabelSets;
use crate::maintain::put_late;
use crate::wal::{CheckpointWriter, RecordBuilder, segment_path};

/// Labels of a series record, about; more go to the next.
const RECORD: usize = 256 << 10;

/// What a checkpoint says. It is taken under locks and written without them: what comes meanwhile is in segments that stay.
struct Contents {
    /// The last segment it stands for.
    number: u64,
    /// Where the log was.
    taken_at: LogPosition,
    sets: LabelSets,
    /// Series numbers that the log may mention and the places of their label sets; of equal sets the one that counts comes first.
    series: Vec<(u32, u32)>,
    /// All else that it says.
    rest: RecordBuilder,
}

/// Removes log segments whose samples are all in blocks, behind a checkpoint with what else they say.
pub(crate) fn shorten_log(db: &Engine) -> Result<(), MaintainError> {
    let followed = followed_segment(db);
    let Some(contents) = Contents::take(db, followed)? else { return Ok(()) };
    match contents.write(db) {
        Ok(true) => db.counters.checkpoints.add(1),
        Ok(false) => {}
        Err(error) => {
            db.counters.checkpoints_failed.add(1);
            return Err(error.into());
        }
    }
    Ok(())
}

impl Contents {
    /// `None` if no segment can go.
    fn take(db: &Engine, followed: Option<u64>) -> Result<Option<Self>, FileError> {
        let mut wal = db.wal.lock();
        // only maintenance changes it
        let in_blocks = db.groups.lock().bounds.min_valid;
        // small databases never fill a segment: close one that has a block's worth of time
        if wal.is_outdated(in_blocks) {
            wal.rotate()?;
        }
        let Some((number, min_valid)) = wal.obsolete(in_blocks, followed) else { return Ok(None) };
        let index = db.index.read();
        let groups = db.groups.lock();
        let mut series = Vec::with_capacity(index.len());
        series.extend(index.ids().map(|id| (id, index.place(id))));
        let mut aliases = db.aliases.lock();
        aliases.retain(|_, id| index.contains(*id));
        let mut same: Vec<(u32, u32)> = aliases.iter().map(|(alias, id)| (*alias, index.place(*id))).collect();
        drop(aliases);
        same.sort_unstable();
        series.append(&mut same);
        let mut rest = RecordBuilder::default();
        rest.metadata(db.metadata.lock().iter().map(|(id, m)| (*id, m)));
        rest.tombstones(&groups.tombstones);
        if min_valid > Timestamp::MIN {
            rest.flushed(min_valid);
        }
        put_late(&mut rest, &groups, Timestamp::MAX);
        rest.end();
        Ok(Some(Self { number, taken_at: wal.position(), sets: index.label_sets(), series, rest }))
    }

    /// Writes the checkpoint and removes what it stands for; `false` if that must stay.
    fn write(self, db: &Engine) -> Result<bool, FileError> {
        let mut writer = CheckpointWriter::create(&db.options.files, &db.dir.join("wal"), self.number, self.taken_at)?;
        let mut batch: Vec<(u32, Labels)> = Vec::new();
        let mut size = 0;
        let mut record = RecordBuilder::default();
        for (id, place) in self.series {
            let labels = self.sets.labels(place);
            size += labels.as_bytes().len() + 8;
            batch.push((id, labels));
            if size > RECORD {
                record.series(batch.iter().map(|(id, labels)| (*id, labels)));
                writer.append(&record.bytes)?;
                record.bytes.clear();
                batch.clear();
                size = 0;
            }
        }
        record.series(batch.iter().map(|(id, labels)| (*id, labels)));
        record.bytes.extend_from_slice(&self.rest.bytes);
        writer.append(&record.bytes)?;
        writer.sync()?;
        // who has begun to follow the log meanwhile may still want these segments
        if followed_segment(db).is_some_and(|oldest| oldest <= self.number) {
            return Ok(false);
        }
        db.wal.lock().install(writer)?;
        Ok(true)
    }
}

/// The segment from which on the log is kept for those that follow it: the oldest that one of them reads, if what is kept is within
/// the limit. Files are looked at without the lock of the log: a segment that is closed meanwhile is newer, and kept as well.
fn followed_segment(db: &Engine) -> Option<u64> {
    let oldest = db.followers.oldest()?;
    let mut left = db.options.log_follower_bytes;
    let closed: Vec<u64> = db.wal.lock().closed().iter().map(|s| s.number).collect();
    let behind = closed.last().map_or(0, |newest| newest + 1);
    let kept = closed.into_iter().rev().take_while(|number| {
        let path = segment_path(&db.dir.join("wal"), *number);
        // a file that does not say how long it is takes no room
        let len = db.options.files.open(&path, false).and_then(|f| f.len().map_err(FileError::at("read", &path)));
        let room = left.checked_sub(len.unwrap_or(0));
        left = room.unwrap_or(0);
        *number >= oldest && room.is_some()
    });
    Some(kept.last().unwrap_or(behind))
}

//! How a page differs from the last one of its target: which lines stay, and which are new.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tsdb::SeriesRef;

use super::page_cache::{Cursor, Divider, Edits, Line, NewLines, PageCache, PageWriter, SMALL_BLOCK};
use crate::number_hash::NumberHash;

/// Neighbouring lines of the page.
#[derive(Clone, Debug)]
enum Run {
    /// These lines of the last page.
    Old(Range<usize>),
    /// These of [`Changes::new`].
    New(Range<usize>),
}

impl Run {
    fn lines(&self) -> &Range<usize> {
        match self {
            Self::Old(lines) | Self::New(lines) => lines,
        }
    }
}

/// As much text of new lines is held before it goes into a new cache, so that a first page is not in memory as a whole.
const HELD: usize = 64 << 10;

/// If the text of the lines of the last page is not more than this many times as long as what is held, a new cache is written: else the
/// last one is changed in the end.
const STAYS: usize = 4;

/// What the next page is compared with.
pub(super) enum NextCache {
    /// Another cache.
    New(PageCache),
    /// The one there is, with these changes.
    Changed(Edits),
}

/// The lines of a page that is not the last one again. What stays costs next to nothing: neighbours are counted while the page is read,
/// and in the end only blocks of lines with a change are written again. Where much changes, or lines come in another order, all are.
pub(super) struct Changes<'a> {
    old: &'a PageCache,
    /// Whether series of lines with timestamps of their own get markers when they end.
    track_timed: bool,
    /// Lines of the last page that have come last and in order. They are in neither `stays` nor `runs` yet.
    coming: Range<usize>,
    /// None of the lines of the last page from this one on has come before `coming`, or is among the `taken`.
    untouched: usize,
    /// A bit for each line of the last page that is there.
    stays: Vec<u64>,
    /// The series of new lines.
    added: HashSet<SeriesRef, NumberHash>,
    /// Lines of the last page whose series other lines have taken.
    taken: HashSet<usize>,
    /// The lines of the last page by series, once somebody asked.
    by_series: Option<HashMap<SeriesRef, u32, NumberHash>>,
    /// Lines that are not written yet.
    runs: Vec<Run>,
    new: NewLines,
    /// Writes a new cache, if need be.
    writer: Option<PageWriter>,
}

impl<'a> Changes<'a> {
    /// A page that begins with this many lines of the last one.
    pub(super) fn new(old: &'a PageCache, same: usize, track_timed: bool) -> Self {
        Self {
            old,
            track_timed,
            coming: 0..same,
            untouched: 0,
            stays: vec![0; old.len().div_ceil(64)],
            added: HashSet::default(),
            taken: HashSet::new(),
            by_series: None,
            runs: Vec::new(),
            new: NewLines::default(),
            writer: None,
        }
    }

    /// Whether a line of the last page comes again behind the one that was before it, and leads to what it led to. Then it is noted, and
    /// otherwise [`Changes::keep`] is to be asked.
    #[inline]
    pub(super) fn goes_on(&mut self, at: usize) -> bool {
        let goes_on = at == self.coming.end && at >= self.untouched;
        self.coming.end += usize::from(goes_on);
        goes_on
    }

    /// A line of the last page comes again, with this text. What it is now: of lines of a series the first counts.
    pub(super) fn keep(&mut self, at: usize, text: &[u8], line: Line) -> Line {
        self.settle();
        if self.has(at) || self.taken.contains(&at) {
            let line = if matches!(line, Line::Series(_)) { Line::Repeated } else { line };
            return self.push(text, line);
        }
        self.coming = at..at + 1;
        line
    }

    /// Puts the lines that are coming where the others are.
    fn settle(&mut self) {
        let lines = self.coming.clone();
        self.coming.start = lines.end;
        if lines.is_empty() {
            return;
        }
        self.untouched = self.untouched.max(lines.end);
        let (first, last) = (lines.start / 64, (lines.end - 1) / 64);
        for (word, stays) in self.stays[first..=last].iter_mut().enumerate() {
            let from = lines.start.saturating_sub((first + word) * 64);
            let upto = (lines.end - (first + word) * 64).min(64);
            *stays |= u64::MAX << from & u64::MAX >> (64 - upto);
        }
        match self.runs.last_mut() {
            Some(Run::Old(before)) if before.end == lines.start => before.end = lines.end,
            _ => self.runs.push(Run::Old(lines)),
        }
    }

    /// A line comes that was not on the last page. What it is: of lines of a series the first counts, but for those with times of
    /// their own, of which there may be several.
    pub(super) fn add(&mut self, text: &[u8], line: Line) -> Line {
        self.settle();
        let repeated = match line {
            Line::Series(series) => !self.first(series),
            Line::Timed(series) if self.track_timed => {
                self.first(series);
                false
            }
            _ => false,
        };
        self.push(text, if repeated { Line::Repeated } else { line })
    }

    /// The line of the last page that has this series.
    pub(super) fn old_line_of(&mut self, series: SeriesRef) -> Option<usize> {
        if series > self.old.newest() {
            return None;
        }
        let old = self.old;
        let by_series = self.by_series.get_or_insert_with(|| {
            old.lines().zip(0..).filter_map(|(line, at)| Some((line.series(true)?, at))).collect()
        });
        by_series.get(&series).map(|at| *at as usize)
    }

    /// Notes the series of a new line. Whether no line before has it.
    fn first(&mut self, series: SeriesRef) -> bool {
        if let Some(at) = self.old_line_of(series)
            && self.old.line(at).series(self.track_timed).is_some()
        {
            if self.has(at) {
                return false;
            }
            self.taken.insert(at);
            self.untouched = self.untouched.max(at + 1);
        }
        self.added.insert(series)
    }

    fn has(&self, at: usize) -> bool {
        self.stays[at / 64] & 1 << (at % 64) != 0
    }

    fn push(&mut self, text: &[u8], line: Line) -> Line {
        let at = self.new.len();
        self.new.push(text, line);
        match self.runs.last_mut() {
            Some(Run::New(lines)) => lines.end += 1,
            _ => self.runs.push(Run::New(at..at + 1)),
        }
        let held = self.new.text_len();
        if held > HELD && (self.writer.is_some() || held > self.old.text_len() / STAYS) {
            self.write();
        }
        line
    }

    /// The series of the last page that are not on this one.
    pub(super) fn ended(&mut self) -> Vec<SeriesRef> {
        self.settle();
        let mut ended = Vec::new();
        // of lines with timestamps a series may have several
        let mut timed = false;
        for (word, stays) in self.stays.iter().enumerate() {
            let mut gone = !stays;
            while gone != 0 {
                let at = word * 64 + gone.trailing_zeros() as usize;
                gone &= gone - 1;
                if at >= self.old.len() {
                    break;
                }
                let line = self.old.line(at);
                let Some(series) = line.series(self.track_timed) else { continue };
                if !self.added.contains(&series) {
                    timed |= matches!(line, Line::Timed(_));
                    ended.push(series);
                }
            }
        }
        if timed {
            let stay = (0..self.old.len()).filter(|at| self.has(*at));
            let stay: HashSet<SeriesRef, NumberHash> =
                stay.filter_map(|at| self.old.line(at).series(self.track_timed)).collect();
            ended.retain(|series| !stay.contains(series));
            ended.sort_unstable();
            ended.dedup();
        }
        ended
    }

    /// The page as it is now.
    pub(super) fn finish(mut self) -> NextCache {
        self.settle();
        if self.writer.is_some() || !self.keeps_order() {
            self.write();
            return NextCache::New(self.writer.unwrap_or_default().finish());
        }
        let mut edits = Edits::of(self.new);
        let (mut from, mut new) = (0, 0..0);
        for run in self.runs {
            match run {
                Run::New(lines) => new.end = lines.end,
                Run::Old(lines) => {
                    edits.put(from..lines.start, new.clone());
                    (from, new.start) = (lines.end, new.end);
                }
            }
        }
        edits.put(from..self.old.len(), new);
        NextCache::Changed(edits)
    }

    /// Whether there are lines that stay, and they stand in the order they had.
    fn keeps_order(&self) -> bool {
        let old = || self.runs.iter().filter(|run| matches!(run, Run::Old(_))).map(Run::lines);
        old().next().is_some() && old().zip(old().skip(1)).all(|(a, b)| a.end <= b.start)
    }

    /// Writes the lines so far: whole blocks that stay are copied, what lies between them goes into blocks of its own.
    fn write(&mut self) {
        self.settle();
        let mut writer = self.writer.take().unwrap_or_else(|| PageWriter::like(self.old));
        let (mut between, mut count) = (Vec::new(), 0);
        let put = |between: &mut Vec<Run>, count: &mut usize, run: Run| {
            *count += run.lines().len();
            if !run.lines().is_empty() {
                between.push(run);
            }
        };
        for run in std::mem::take(&mut self.runs) {
            let mut blocks = match &run {
                Run::Old(lines) => self.old.whole_blocks(lines),
                Run::New(_) => 0..0,
            };
            let lines = run.lines().clone();
            if blocks.is_empty() {
                put(&mut between, &mut count, run);
                continue;
            }
            put(&mut between, &mut count, Run::Old(lines.start..self.old.lines_of(&blocks).start));
            while (1..SMALL_BLOCK).contains(&count) && !blocks.is_empty() {
                let first = blocks.start..blocks.start + 1;
                put(&mut between, &mut count, Run::Old(self.old.lines_of(&first)));
                blocks.start += 1;
            }
            self.write_lines(&between, count, &mut writer);
            (between, count) = (Vec::new(), 0);
            let after = self.old.lines_of(&blocks).end;
            writer.copy(self.old, blocks);
            put(&mut between, &mut count, Run::Old(after..lines.end));
        }
        self.write_lines(&between, count, &mut writer);
        self.new.clear();
        self.writer = Some(writer);
    }

    fn write_lines(&self, runs: &[Run], count: usize, writer: &mut PageWriter) {
        let mut divider = Divider::new(count);
        let mut push = |text: &[u8], packed: Option<&[u8]>, line| {
            if divider.begins() {
                writer.block();
            }
            writer.push(text, packed, line);
        };
        let mut cursor = Cursor::new(self.old);
        for run in runs {
            match run {
                Run::Old(lines) => {
                    cursor.seek(lines.start);
                    while cursor.at() < lines.end
                        && let Some((text, line)) = cursor.line()
                    {
                        let packed = cursor.packed().filter(|_| cursor.at() > lines.start);
                        push(text, packed, line);
                        cursor.advance();
                    }
                }
                Run::New(lines) => self.new.range(lines.clone()).for_each(|(text, line)| push(text, None, line)),
            }
        }
    }
}

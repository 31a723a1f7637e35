//! Lines in the place of others: what has changed of a page is written where it was, and the rest is not touched.

use std::ops::Range;

use super::{Block, Cursor, Divider, Line, Packer, PageCache};

/// Blocks with fewer lines are put together with the next.
pub(in crate::scrape) const SMALL_BLOCK: usize = 8;

/// One in so many bytes of text may be no block's, before all of it is written anew.
const UNUSED: usize = 8;

/// Blocks that had no room where they were get room for one in so many bytes more, and a few.
const SLACK: usize = 16;

/// Lines of a page that are new.
#[derive(Debug, Default)]
pub(in crate::scrape) struct NewLines {
    text: Vec<u8>,
    /// Where each ends in the text.
    lines: Vec<(usize, Line)>,
}

impl NewLines {
    pub(in crate::scrape) fn push(&mut self, text: &[u8], line: Line) {
        self.text.extend_from_slice(text);
        self.lines.push((self.text.len(), line));
    }

    pub(in crate::scrape) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(in crate::scrape) fn text_len(&self) -> usize {
        self.text.len()
    }

    pub(in crate::scrape) fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
    }

    /// Some of them, which there must be.
    pub(in crate::scrape) fn range(&self, lines: Range<usize>) -> impl Iterator<Item = (&[u8], Line)> {
        let mut from = lines.start.checked_sub(1).map_or(0, |before| self.lines[before].0);
        self.lines[lines].iter().map(move |(end, line)| {
            let text = &self.text[from..*end];
            from = *end;
            (text, *line)
        })
    }
}

/// New lines in the place of some of the old ones. Either may be none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    old: Range<usize>,
    new: Range<usize>,
}

/// How a page differs from the last one, of which most stays in its order.
#[derive(Debug, Default)]
pub(in crate::scrape) struct Edits {
    /// Ascending; between two there is a line that stays.
    edits: Vec<Edit>,
    new: NewLines,
}

impl Edits {
    pub(in crate::scrape) fn of(new: NewLines) -> Self {
        Self { edits: Vec::new(), new }
    }

    /// Puts new lines in the place of old ones, behind those before.
    pub(in crate::scrape) fn put(&mut self, old: Range<usize>, new: Range<usize>) {
        if !old.is_empty() || !new.is_empty() {
            self.edits.push(Edit { old, new });
        }
    }
}

/// Blocks that others are put in the place of.
struct Replaced {
    old: Range<usize>,
    /// Where those that come end in the list of all that do.
    end: usize,
    /// By how much the numbers of lines behind them have changed.
    moved: i64,
}

/// Blocks that are written again, put together.
#[derive(Debug, Default)]
struct Rewritten {
    divider: Divider,
    packer: Packer,
    text: Vec<u8>,
    /// The end of each block in the text, and how many lines it has.
    blocks: Vec<(usize, u32)>,
    /// Memory for the lines that are read.
    line: Vec<u8>,
}

impl Rewritten {
    /// Begins with nothing, for so many lines.
    fn begin(&mut self, lines: usize) {
        self.divider = Divider::new(lines);
        self.text.clear();
        self.blocks.clear();
    }

    /// Adds a line.
    fn push(&mut self, text: &[u8]) {
        self.begin_line();
        self.packer.push(text, None, &mut self.text);
        self.end_line();
    }

    /// Adds lines of a cache, none of which the cursor is behind. It is at the last of them then.
    fn push_all(&mut self, lines: Range<usize>, cursor: &mut Cursor<'_>) {
        for at in lines.clone() {
            cursor.go_on_to(at);
            let begins = self.begin_line();
            // a line behind the same one as before is written as before
            match cursor.packed().filter(|_| at > lines.start && !begins) {
                Some(packed) => self.text.extend_from_slice(packed),
                None => self.packer.push(&cursor.text, None, &mut self.text),
            }
            if at + 1 == lines.end || cursor.ends_block() {
                self.packer.pass(&cursor.text);
            }
            self.end_line();
        }
    }

    /// Whether a block begins with the line.
    fn begin_line(&mut self) -> bool {
        let begins = self.divider.begins();
        if begins {
            self.blocks.push((0, 0));
            self.packer.begin();
        }
        begins
    }

    fn end_line(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            *block = (self.text.len(), block.1 + 1);
        }
    }
}

impl PageCache {
    /// Takes lines out and puts others in their places. There must be lines.
    pub(in crate::scrape) fn edit(&mut self, edits: &Edits) {
        let Edits { edits, new } = edits;
        let (mut places, mut blocks) = (Vec::new(), Vec::new());
        let mut rewritten = Rewritten::default();
        // blocks so far, and by how much the numbers of lines behind them have changed
        let (mut done, mut moved) = (0, 0i64);
        let mut left = edits.as_slice();
        while let Some(first) = left.first() {
            let Some(mut touched) = self.touched(first, done) else { break };
            let (mut count, mut taken, mut put) = (1, first.old.len(), first.new.len());
            let mut last = touched.end - 1;
            let lines = loop {
                let next = left.get(count).and_then(|next| Some((next, self.touched(next, last)?)));
                if let Some((next, blocks)) = next.filter(|(_, blocks)| blocks.start < touched.end) {
                    last = blocks.end - 1;
                    touched.end = touched.end.max(blocks.end);
                    (count, taken, put) = (count + 1, taken + next.old.len(), put + next.new.len());
                    continue;
                }
                let lines = self.lines_of(&touched).len() - taken + put;
                if !(1..SMALL_BLOCK).contains(&lines) || touched.end == self.blocks.len() {
                    break lines;
                }
                touched.end += 1;
            };
            let (now, later) = left.split_at(count);
            left = later;
            self.rewrite(&touched, now, new, lines, &mut rewritten);
            let line = self.blocks[touched.start].moved(moved).line;
            done = touched.end;
            self.place(touched.clone(), line, &rewritten, &mut blocks);
            moved += put as i64 - taken as i64;
            places.push(Replaced { old: touched, end: blocks.len(), moved });
        }
        self.replace_blocks(&places, &blocks);
        self.replace_lines(edits, new, (self.len() as i64 + moved) as usize);
        if self.unused > self.text.len() / UNUSED {
            self.write_anew();
        }
    }

    /// The blocks that an edit changes, none of which is before `from`; `None` where there are none at all. What comes behind all lines goes
    /// to the last block.
    fn touched(&self, edit: &Edit, from: usize) -> Option<Range<usize>> {
        let last = edit.old.end.max(edit.old.start + 1) - 1;
        // edits ascend: mostly it is not far
        let block_of = |line: usize, from: usize| {
            let behind = self.blocks.get(from + 1..)?;
            Some(from + behind.iter().take_while(|block| block.line as usize <= line).count())
        };
        let first = block_of(edit.old.start, from)?;
        Some(first..block_of(last, first)? + 1)
    }

    /// Puts these blocks together with these edits, which is so many lines.
    fn rewrite(&self, blocks: &Range<usize>, edits: &[Edit], new: &NewLines, count: usize, to: &mut Rewritten) {
        let mut lines = self.lines_of(blocks);
        to.begin(count);
        let mut cursor = Cursor::at_block(self, blocks.start, std::mem::take(&mut to.line));
        for Edit { old, new: put } in edits {
            to.push_all(lines.start..old.start, &mut cursor);
            new.range(put.clone()).for_each(|(text, _)| to.push(text));
            lines.start = old.end;
        }
        to.push_all(lines, &mut cursor);
        to.line = cursor.text;
    }

    /// Puts blocks in the place of others if there is room, and otherwise at the end.
    fn place(&mut self, old: Range<usize>, mut line: u32, rewritten: &Rewritten, blocks: &mut Vec<Block>) {
        let mut places = self.blocks[old].iter();
        let mut from = 0;
        for (end, lines) in &rewritten.blocks {
            let bytes = &rewritten.text[from..*end];
            from = *end;
            let len = bytes.len() as u32;
            let place = places.next().map(|old| (old.start, old.room));
            let (start, room) = match place {
                Some((start, room)) if room >= len => (start, room),
                unfit => {
                    self.unused += unfit.map_or(0, |(_, room)| room as usize);
                    let room = with_slack(len);
                    let start = self.text.len();
                    if self.text.capacity() - start < room as usize {
                        self.text.reserve_exact((start / super::SPARE).max(room as usize));
                    }
                    self.text.resize(start + room as usize, 0);
                    (start, room)
                }
            };
            self.text[start..start + bytes.len()].copy_from_slice(bytes);
            blocks.push(Block { start, len, room, line });
            line += lines;
        }
        self.unused += places.map(|old| old.room as usize).sum::<usize>();
    }

    /// Puts new blocks in the place of old ones.
    fn replace_blocks(&mut self, places: &[Replaced], new: &[Block]) {
        let mut from = 0;
        // mostly lines have come in the place of as many others
        let same = |place: &Replaced| {
            place.moved == 0 && place.end - std::mem::replace(&mut from, place.end) == place.old.len()
        };
        if places.iter().all(same) {
            let mut from = 0;
            for Replaced { old, end, .. } in places {
                self.blocks[old.clone()].copy_from_slice(&new[from..*end]);
                from = *end;
            }
            return;
        }
        let mut blocks = Vec::with_capacity(super::with_spare(self.blocks.len()));
        let (mut from, mut done, mut moved) = (0, 0, 0);
        for place in places {
            blocks.extend(self.blocks[done..place.old.start].iter().map(|block| block.moved(moved)));
            blocks.extend_from_slice(&new[from..place.end]);
            (from, done, moved) = (place.end, place.old.end, place.moved);
        }
        blocks.extend(self.blocks[done..].iter().map(|block| block.moved(moved)));
        self.blocks = blocks;
    }

    /// There are `count` lines afterwards.
    fn replace_lines(&mut self, edits: &[Edit], new: &NewLines, count: usize) {
        if edits.iter().all(|e| e.old.len() == e.new.len()) {
            for Edit { old, new: put } in edits {
                for (at, (_, line)) in old.clone().zip(new.range(put.clone())) {
                    self.lines[at] = line.into();
                    self.meet(line);
                }
            }
            return;
        }
        let old = std::mem::replace(&mut self.lines, Vec::with_capacity(super::with_spare(count)));
        let mut from = 0;
        for Edit { old: taken, new: put } in edits {
            self.lines.extend_from_slice(&old[from..taken.start]);
            new.range(put.clone()).for_each(|(_, line)| self.push(line));
            from = taken.end;
        }
        self.lines.extend_from_slice(&old[from..]);
    }

    /// Writes the text anew, in the order of the lines, with a little room behind each block: what has changed will again.
    fn write_anew(&mut self) {
        let size = self.blocks.iter().map(|block| with_slack(block.len) as usize).sum();
        let old = std::mem::replace(&mut self.text, Vec::with_capacity(size));
        for block in &mut self.blocks {
            let start = self.text.len();
            self.text.extend_from_slice(&old[block.start..block.end()]);
            (block.start, block.room) = (start, with_slack(block.len));
            self.text.resize(start + block.room as usize, 0);
        }
        self.unused = 0;
    }
}

fn with_slack(len: u32) -> u32 {
    len + len / SLACK as u32 + SLACK as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tsdb::SeriesRef;

    use super::super::PageWriter;
    use super::*;

    type Lines = Vec<(Vec<u8>, Line)>;

    fn text(number: u32, long: bool) -> Vec<u8> {
        match long {
            // longer than one byte can say
            true => {
                [b"http_requests_total{path=\"".to_vec(), vec![b'x'; 300], number.to_string().into_bytes()].concat()
            }
            false => format!("http_requests_total{{path=\"/{number}\"}}").into_bytes(),
        }
    }

    fn line(number: u32) -> Line {
        if number.is_multiple_of(5) { Line::Comment } else { Line::Series(SeriesRef(u64::from(number))) }
    }

    fn cache(lines: &Lines) -> PageCache {
        let mut writer = PageWriter::default();
        for block in lines.chunks(16) {
            writer.block();
            block.iter().for_each(|(text, line)| writer.push(text, None, *line));
        }
        writer.finish()
    }

    fn all(cache: &PageCache) -> Lines {
        let mut cursor = Cursor::new(cache);
        std::iter::from_fn(|| {
            let found = cursor.line().map(|(text, line)| (text.to_vec(), line));
            cursor.advance();
            found
        })
        .collect()
    }

    /// How many lines stay, how many of those behind go, and what comes in their place.
    type Step = (usize, usize, Vec<(u32, bool)>);

    fn step() -> impl Strategy<Value = Step> {
        let new = prop::collection::vec((any::<u32>(), prop::bool::weighted(0.05)), 0..4);
        let many = prop::collection::vec((any::<u32>(), Just(false)), 0..60);
        (0usize..60, prop_oneof![9 => 0usize..4, 1 => 0usize..60], prop_oneof![9 => new, 1 => many])
    }

    /// The edits, and what the lines are afterwards.
    fn edits(old: &Lines, steps: &[Step]) -> (Edits, Lines) {
        let (mut new, mut places, mut expected, mut at) = (NewLines::default(), Vec::new(), Lines::new(), 0);
        for (stay, go, come) in steps {
            // between two edits a line stays
            let from = (at + stay + usize::from(at > 0)).min(old.len());
            let to = (from + go).min(old.len());
            if from == at && at > 0 {
                break;
            }
            let first = new.len();
            expected.extend_from_slice(&old[at..from]);
            for (number, long) in come {
                new.push(&text(*number, *long), line(*number));
                expected.push((text(*number, *long), line(*number)));
            }
            places.push((from..to, first..new.len()));
            at = to;
        }
        expected.extend_from_slice(&old[at..]);
        let mut edits = Edits::of(new);
        places.into_iter().for_each(|(old, new)| edits.put(old, new));
        (edits, expected)
    }

    proptest! {
        #[test]
        fn lines_are_what_they_would_be_in_a_new_cache(
            first in 1u32..300,
            rounds in prop::collection::vec(prop::collection::vec(step(), 0..12), 1..8),
        ) {
            let mut lines: Lines = (0..first).map(|number| (text(number, number == 40), line(number))).collect();
            let mut cache = cache(&lines);
            for steps in rounds {
                if lines.is_empty() {
                    break;
                }
                let (edits, expected) = edits(&lines, &steps);
                cache.edit(&edits);
                lines = expected;
                prop_assert_eq!(&all(&cache), &lines);
                prop_assert!(lines.iter().all(|(_, line)| line.series(true).is_none_or(|s| s <= cache.newest())));
                // any line can be gone to, and no place is two blocks'
                let mut cursor = Cursor::new(&cache);
                for at in [0, lines.len() / 3, lines.len().saturating_sub(1)] {
                    cursor.seek(at);
                    prop_assert_eq!(cursor.line().map(|(text, _)| text.to_vec()), lines.get(at).map(|line| line.0.clone()));
                }
                let mut places: Vec<_> = cache.blocks.iter().map(|b| b.start..b.start + b.room as usize).collect();
                places.sort_by_key(|place| place.start);
                prop_assert!(places.windows(2).all(|two| two[0].end <= two[1].start));
                let used: usize = places.iter().map(Range::len).sum();
                prop_assert_eq!(used + cache.unused, cache.text.len());
                prop_assert!(cache.unused <= cache.text.len() / UNUSED);
                let sizes = || (0..cache.blocks.len()).map(|at| cache.lines_of(&(at..at + 1)).len());
                prop_assert!(sizes().all(|lines| (1..=32).contains(&lines)), "{:?}", sizes().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn blocks_without_a_change_stay_where_they_are_and_one_that_moved_has_room() {
        let lines: Lines = (1000..2000).map(|number| (text(number, false), line(number))).collect();
        let mut cache = cache(&lines);
        let mut number = 1 << 20;
        let mut change = |cache: &mut PageCache| {
            number += 1;
            let (mut new, places) = (NewLines::default(), [3, 40, 999]);
            places.iter().for_each(|_| new.push(&text(number, false), Line::Series(SeriesRef(u64::from(number)))));
            let mut edits = Edits::of(new);
            places.iter().enumerate().for_each(|(new, old)| edits.put(*old..old + 1, new..new + 1));
            cache.edit(&edits);
            assert_eq!(cache.newest(), SeriesRef(u64::from(number)));
            cache.blocks.iter().map(|block| block.start).collect::<Vec<_>>()
        };
        let before: Vec<usize> = cache.blocks.iter().map(|block| block.start).collect();
        let moved = change(&mut cache);
        let which: Vec<usize> = (0..before.len()).filter(|at| moved[*at] != before[*at]).collect();
        assert_eq!(which, [0, 2, before.len() - 1]);
        assert!(cache.unused > 0);
        assert_eq!(change(&mut cache), moved);
    }
}

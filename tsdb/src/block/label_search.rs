//! Searches by labels in a block's index.

use model::Matcher;

use crate::block::index_reader::Tables;
use crate::block::label_table::LabelValues;
use crate::block::pages::PageBuffer;
use crate::block::posting_lists::{has_posting, take_postings};
use crate::block::symbols::same_run;
use crate::error::{Damaged, ReadError};
use crate::postings::{LabelIndex, SeriesSet, VALUE_WORK};
use crate::texts::Texts;
use crate::watch::Pace;

/// Posting lists that are so many bytes apart are read in one go, up to so many bytes.
const NEAR: u64 = 4096;
const READ_AT_ONCE: u64 = 1 << 20;

/// Posting lists that are read in one go.
const LISTS_AT_ONCE: usize = 1024;

/// Where so many texts and more lie next to each other they are not copied.
const SHARED: usize = 16;

const WHAT: &str = "postings";

impl Tables {
    fn values_of(&self, name: &str) -> Result<Option<&LabelValues>, ReadError> {
        self.labels.values(self.file(), self.symbols.len(), name)
    }

    /// Makes the texts of symbols there.
    fn have_texts(&self, symbols: &[u32]) -> Result<(), ReadError> {
        self.symbols.have_all(self.file(), symbols.iter().copied())
    }

    /// The texts of ascending symbols, which are there; anything if `pace` has said stop.
    fn texts(&self, symbols: &[u32], pace: &Pace<'_>) -> Texts {
        // they are mostly next to each other
        let runs = || symbols.chunk_by(|a, b| same_run(*a, *b));
        if runs().count() <= symbols.len() / SHARED {
            return Texts::ascending_rows(runs().map(|run| self.symbols.run(run[0], run.len())));
        }
        let texts = symbols.iter().map(|symbol| self.symbols.text(*symbol));
        Texts::ascending(texts.take_while(|_| pace.done(VALUE_WORK)))
    }

    /// Calls `each` with the posting lists of some of a label's values, which are read in one go.
    fn each_list(
        &self,
        values: &LabelValues,
        places: impl DoubleEndedIterator<Item = usize> + Clone,
        pages: &mut PageBuffer,
        mut each: impl FnMut(usize, &[u8]) -> Result<(), Damaged>,
    ) -> Result<(), ReadError> {
        let Some((first, last)) = places.clone().next().zip(places.clone().next_back()) else { return Ok(()) };
        let (start, end) = (values.list(first).start, values.list(last).end);
        let bytes = self.file().read_on(pages, start, (end - start) as usize, WHAT)?;
        let mut lists = places.map(|at| {
            let list = values.list(at);
            each(at, &bytes[(list.start - start) as usize..(list.end - start) as usize])
        });
        lists.try_for_each(|list| list).map_err(|e| e.in_file(self.path()))
    }

    /// Calls `each` with the posting lists of all of a label's values, many of which are read in one go.
    fn each_of_all(
        &self,
        values: &LabelValues,
        mut each: impl FnMut(usize, &[u8]) -> Result<(), Damaged>,
    ) -> Result<(), ReadError> {
        let count = values.symbols.len();
        let Some(last) = count.checked_sub(1) else { return Ok(()) };
        let mut pages = PageBuffer::through(values.list(0).start..values.list(last).end);
        let mut starts = (0..count).step_by(LISTS_AT_ONCE);
        starts.try_for_each(|from| self.each_list(values, from..count.min(from + LISTS_AT_ONCE), &mut pages, &mut each))
    }

    /// Reads all of the index but its series, for who wants to know whether it can be read.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        self.places()?;
        self.symbols.check(self.file())?;
        for name in self.labels.names().iter() {
            if let Some(values) = self.values_of(name)? {
                self.each_of_all(values, |_, bytes| take_postings(bytes, self.series_count()).map(|_| ()))?;
            }
        }
        Ok(())
    }
}

impl LabelIndex for Tables {
    type Error = ReadError;

    fn all(&self) -> Result<Vec<u32>, ReadError> {
        Ok((0..self.series_count()).collect())
    }

    fn with_value(&self, name: &str, value: &str) -> Result<Vec<u32>, ReadError> {
        let Some(values) = self.values_of(name)? else { return Ok(Vec::new()) };
        let symbol = self.symbols.find(self.file(), value)?;
        let at = symbol.and_then(|symbol| values.symbols.binary_search(&symbol).ok());
        let mut list = Vec::new();
        self.each_list(values, at.into_iter(), &mut PageBuffer::default(), |_, bytes| {
            list = take_postings(bytes, self.series_count())?;
            Ok(())
        })?;
        Ok(list)
    }

    fn with_values(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Vec<u32>>, ReadError> {
        let Some(values) = self.values_of(name)? else { return Ok(Vec::new()) };
        let symbols = self.symbols.with_prefix(self.file(), prefix)?;
        let place = |symbol: u32| values.symbols.partition_point(|known| *known < symbol);
        let places = place(symbols.start)..place(symbols.end);
        self.have_texts(&values.symbols[places.clone()])?;
        let wanted: Vec<usize> = places.filter(|at| keep(self.symbols.text(values.symbols[*at]))).collect();
        // lists of a name lie side by side: one read for those that are near each other
        let mut lists = Vec::with_capacity(wanted.len());
        let mut rest = &wanted[..];
        while let Some(first) = rest.first() {
            let start = values.list(*first).start;
            let near = |pair: &[usize]| {
                let next = values.list(pair[1]).start;
                next - values.list(pair[0]).end <= NEAR && next - start <= READ_AT_ONCE
            };
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let (run, others) = rest.split_at(count);
            // what lies between them is not read
            self.each_list(values, run.iter().copied(), &mut PageBuffer::default(), |_, bytes| {
                lists.push(take_postings(bytes, self.series_count())?);
                Ok(())
            })?;
            rest = others;
        }
        Ok(lists)
    }

    fn values_among(
        &self,
        name: &str,
        series: &[u32],
        keep: &mut dyn FnMut(&str) -> bool,
        pace: &Pace<'_>,
    ) -> Result<Texts, ReadError> {
        let Some(values) = self.values_of(name)? else { return Ok(Texts::default()) };
        let series = SeriesSet::new(series);
        let mut found = Vec::new();
        self.each_of_all(values, |at, bytes| {
            if pace.done(VALUE_WORK + bytes.len() / 4) && has_posting(bytes, &series)? {
                found.push(values.symbols[at]);
            }
            Ok(())
        })?;
        self.have_texts(&found)?;
        found.retain(|symbol| pace.done(VALUE_WORK) && keep(self.symbols.text(*symbol)));
        Ok(self.texts(&found, pace))
    }

    fn names(&self) -> Result<Texts, ReadError> {
        Ok(self.labels.names().clone())
    }

    fn names_among(&self, series: &[u32], pace: &Pace<'_>) -> Result<Texts, ReadError> {
        let mut found: Vec<u32> = Vec::new();
        self.names_of(series, |name| {
            if !found.contains(&name) {
                found.push(name);
            }
            pace.done(1) && found.len() < self.labels.len()
        })?;
        let mut names = Texts::default();
        for symbol in found {
            // what no label has is no name
            names.push(self.labels.name(symbol).ok_or_else(|| Damaged("labels").in_file(self.path()))?);
        }
        Ok(names)
    }

    fn values(&self, name: &str, matchers: &[&Matcher], pace: &Pace<'_>) -> Result<Texts, ReadError> {
        let Some(values) = self.values_of(name)? else { return Ok(Texts::default()) };
        let symbols = &values.symbols;
        self.have_texts(symbols)?;
        if matchers.is_empty() {
            return Ok(self.texts(symbols, pace));
        }
        let accepted = |text: &str| matchers.iter().all(|m| m.matches(text));
        let keep = |symbol: &u32| pace.done(VALUE_WORK) && accepted(self.symbols.text(*symbol));
        let kept: Vec<u32> = symbols.iter().copied().filter(keep).collect();
        Ok(self.texts(&kept, pace))
    }
}

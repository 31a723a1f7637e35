use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

const PAGE: usize = 1 << 16;

/// Label names and values, each stored once and known by a number.
#[derive(Default)]
pub(crate) struct Symbols {
    pages: Vec<Vec<u8>>,
    /// Where each symbol lies: page, offset in it, length.
    places: Vec<Place>,
    numbers: HashTable<u32>,
    /// Symbols in the order of their texts, and each one's rank in it; behind by the symbols added since.
    order: Vec<u32>,
    ranks: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Place {
    page: u32,
    offset: u32,
    len: u32,
}

impl Symbols {
    pub(crate) fn text(&self, number: u32) -> &str {
        let Place { page, offset, len } = self.places[number as usize];
        let bytes = &self.pages[page as usize][offset as usize..(offset + len) as usize];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.numbers.find(xxh3_64(text.as_bytes()), |n| self.text(*n) == text).copied()
    }

    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.find(text) {
            return number;
        }
        let number = self.places.len() as u32;
        if self.pages.last().is_none_or(|p| p.len() + text.len() > p.capacity()) {
            self.pages.push(Vec::with_capacity(PAGE.max(text.len())));
        }
        let page = self.pages.len() - 1;
        let offset = self.pages[page].len() as u32;
        self.pages[page].extend_from_slice(text.as_bytes());
        self.places.push(Place { page: page as u32, offset, len: text.len() as u32 });
        let Self { numbers, places, pages, .. } = self;
        numbers.insert_unique(xxh3_64(text.as_bytes()), number, |n| {
            let Place { page, offset, len } = places[*n as usize];
            xxh3_64(&pages[page as usize][offset as usize..(offset + len) as usize])
        });
        number
    }

    /// All texts, by number.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        (0..self.places.len() as u32).map(|number| self.text(number))
    }

    /// Number of symbols.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether [`Symbols::ranks`] are those of all symbols.
    pub(crate) fn ranked(&self) -> bool {
        self.ranks.len() == self.places.len()
    }

    /// Brings the ranks up to date; sorts only what is new.
    pub(crate) fn rank(&mut self) {
        if self.ranked() {
            return;
        }
        let mut fresh: Vec<u32> = (self.ranks.len() as u32..self.places.len() as u32).collect();
        fresh.sort_unstable_by(|a, b| self.text(*a).cmp(self.text(*b)));
        let mut merged = Vec::with_capacity(self.places.len());
        let mut old = self.order.iter().copied().peekable();
        for number in fresh {
            while let Some(before) = old.next_if(|o| self.text(*o) < self.text(number)) {
                merged.push(before);
            }
            merged.push(number);
        }
        merged.extend(old);
        let mut ranks = vec![0; merged.len()];
        for (rank, number) in merged.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        self.order = merged;
        self.ranks = ranks;
    }

    /// The rank of each symbol in text order; all of them after [`Symbols::rank`].
    pub(crate) fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.pages.iter().map(Vec::capacity).sum::<usize>()
            + self.places.capacity() * size_of::<Place>()
            + self.numbers.allocation_size()
            + (self.order.capacity() + self.ranks.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_number_and_a_rank() {
        let mut symbols = Symbols::default();
        let numbers: Vec<u32> = ["m", "z", "", "m"].iter().map(|t| symbols.intern(t)).collect();
        assert_eq!(numbers, [0, 1, 2, 0]);
        symbols.rank();
        assert_eq!(symbols.ranks(), [1, 2, 0]);
        symbols.intern("n");
        assert!(!symbols.ranked());
        symbols.rank();
        assert_eq!((symbols.ranks(), symbols.find("n"), symbols.find("o")), (&[1, 3, 0, 2][..], Some(3), None));
        assert_eq!(symbols.text(3), "n");
    }

    #[test]
    fn a_text_longer_than_a_page_is_kept() {
        let mut symbols = Symbols::default();
        let long = "x".repeat(3 * PAGE);
        symbols.intern("a");
        let number = symbols.intern(&long);
        assert_eq!(symbols.text(number), long);
    }
}

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of texts in one page.
const PAGE: usize = 1 << 16;
/// Places in one page.
const PLACES: usize = 1 << 12;

/// Label names and values, each stored once and known by a number.
#[derive(Default)]
pub(crate) struct Symbols {
    texts: SymbolTexts,
    numbers: HashTable<u32>,
}

/// The texts of symbols by number. Cheap to clone: pages are shared until one of the two grows, which copies the last page only.
#[derive(Clone, Default)]
pub(crate) struct SymbolTexts {
    pages: Arc<Vec<Arc<Vec<u8>>>>,
    /// Where each symbol lies, in pages of [`PLACES`].
    places: Arc<Vec<Arc<Vec<Place>>>>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Place {
    page: u32,
    offset: u32,
    len: u32,
}

impl SymbolTexts {
    /// Number of symbols.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn text(&self, number: u32) -> &str {
        std::str::from_utf8(self.bytes(number)).unwrap_or_default()
    }

    /// The text as bytes, which sort as texts do.
    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        let Place { page, offset, len } = self.places[number as usize / PLACES][number as usize % PLACES];
        &self.pages[page as usize][offset as usize..(offset + len) as usize]
    }

    fn push(&mut self, text: &[u8]) -> u32 {
        let number = self.len as u32;
        let pages = Arc::make_mut(&mut self.pages);
        if pages.last().is_none_or(|p| p.len() + text.len() > PAGE) {
            pages.push(Arc::new(Vec::with_capacity(PAGE.max(text.len()))));
        }
        let places = Arc::make_mut(&mut self.places);
        if places.last().is_none_or(|p| p.len() == PLACES) {
            places.push(Arc::new(Vec::with_capacity(PLACES)));
        }
        let page = pages.len() - 1;
        if let (Some(last), Some(place)) = (pages.last_mut(), places.last_mut()) {
            let last = Arc::make_mut(last);
            let offset = last.len() as u32;
            last.extend_from_slice(text);
            Arc::make_mut(place).push(Place { page: page as u32, offset, len: text.len() as u32 });
        }
        self.len += 1;
        number
    }
}

impl Symbols {
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts.text(number)
    }

    /// The texts as they are now.
    pub(crate) fn shared_texts(&self) -> SymbolTexts {
        self.texts.clone()
    }

    /// The number of a text, of which the bytes are given.
    pub(crate) fn find(&self, text: impl AsRef<[u8]>) -> Option<u32> {
        self.find_hashed(xxh3_64(text.as_ref()), text.as_ref())
    }

    fn find_hashed(&self, hash: u64, text: &[u8]) -> Option<u32> {
        self.numbers.find(hash, |n| self.texts.bytes(*n) == text).copied()
    }

    /// The same, a new one for a text that has none.
    pub(crate) fn intern(&mut self, text: impl AsRef<[u8]>) -> u32 {
        let text = text.as_ref();
        let hash = xxh3_64(text);
        if let Some(number) = self.find_hashed(hash, text) {
            return number;
        }
        let number = self.texts.push(text);
        let Self { numbers, texts } = self;
        numbers.insert_unique(hash, number, |n| xxh3_64(texts.bytes(*n)));
        number
    }

    /// All texts, by number.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(|number| self.text(number))
    }

    /// Number of symbols.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.texts.pages.iter().map(|p| p.capacity()).sum::<usize>()
            + self.texts.places.iter().map(|p| p.capacity() * size_of::<Place>()).sum::<usize>()
            + self.numbers.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_number() {
        let mut symbols = Symbols::default();
        let numbers: Vec<u32> = ["m", "z", "", "m"].iter().map(|t| symbols.intern(t)).collect();
        assert_eq!(numbers, [0, 1, 2, 0]);
        assert_eq!((symbols.find("z"), symbols.find("o"), symbols.len()), (Some(1), None, 3));
        assert_eq!(symbols.texts().collect::<Vec<_>>(), ["m", "z", ""]);
    }

    #[test]
    fn a_text_longer_than_a_page_is_kept() {
        let mut symbols = Symbols::default();
        let long = "x".repeat(3 * PAGE);
        symbols.intern("a");
        let number = symbols.intern(&long);
        let after = symbols.intern("b");
        assert_eq!((symbols.text(number), symbols.text(after)), (&long[..], "b"));
    }

    #[test]
    fn shared_texts_stay_what_they_were() {
        let mut symbols = Symbols::default();
        let text = |n: usize| format!("symbol {n}");
        let mut shared = Vec::new();
        for n in 0..3 * PLACES {
            if n % 1000 == 0 {
                shared.push(symbols.shared_texts());
            }
            assert_eq!(symbols.intern(text(n)), n as u32);
        }
        for (at, texts) in shared.iter().enumerate() {
            assert_eq!(texts.len(), at * 1000);
            assert!((0..texts.len()).all(|n| texts.text(n as u32) == text(n)));
        }
        assert!((0..symbols.len()).all(|n| symbols.find(text(n)) == Some(n as u32)));
    }
}

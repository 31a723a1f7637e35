use crate::encoding::varint;

/// The C library gives memory in multiples of this many bytes,
const ALLOCATOR_STEP: usize = 16;
/// of which it keeps so many for itself.
const ALLOCATOR_TAKES: usize = 8;

/// Ascending series numbers, as differences of one to five bytes. Grows at the end only, as series numbers do.
#[derive(Clone, Default)]
pub(crate) struct PostingList {
    bytes: Vec<u8>,
    last: u32,
    count: u32,
}

impl PostingList {
    /// Adds a number that is greater than all in the list.
    pub(crate) fn push(&mut self, id: u32) {
        debug_assert!(self.count == 0 || id > self.last);
        if self.bytes.len() + 5 > self.bytes.capacity() {
            // a quarter more rather than twice as much: lists live long
            let needed = self.bytes.len() + (self.bytes.len() / 4).max(6);
            // as much as the allocator gives anyway: most lists are short
            let given = (needed + ALLOCATOR_TAKES).next_multiple_of(ALLOCATOR_STEP) - ALLOCATOR_TAKES;
            self.bytes.reserve_exact(given - self.bytes.len());
        }
        varint::put(&mut self.bytes, u64::from(id - if self.count == 0 { 0 } else { self.last }));
        self.last = id;
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// The numbers; [`PostingList::iter`] cannot tell how many there will be.
    pub(crate) fn to_vec(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.len());
        self.iter().for_each(|id| ids.push(id));
        ids
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut reader = varint::Reader::new(&self.bytes, "postings");
        let mut last = 0u32;
        (0..self.count).map_while(move |_| {
            last += reader.varint().ok()? as u32;
            Some(last)
        })
    }

    /// Bytes of memory outside the list itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        let mut list = PostingList::default();
        let numbers = [0, 1, 5, 300, 70_000, u32::MAX];
        numbers.iter().for_each(|n| list.push(*n));
        assert_eq!((list.iter().collect::<Vec<_>>(), list.len()), (numbers.to_vec(), 6));
        assert_eq!(list.to_vec(), numbers);
    }
}

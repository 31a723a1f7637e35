//! Memory that pages are decompressed into.

use std::cell::Cell;

use bytes::Bytes;
use memmap2::MmapMut;

/// Larger buffers are not kept by their threads.
const MOST_KEPT: usize = 1 << 20;

/// What the processor maps as one page if the system has it.
const HUGE_PAGE: usize = 2 << 20;
/// Buffers are made of such from this size on: then no more than a fifth is there for nothing.
const LARGE: usize = 4 * HUGE_PAGE;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for a page. Each thread keeps a small one for its next page. Large ones come from the system and go back to it, in huge pages:
/// a small page of the system at a time was measured to take as long as to decompress what goes into it.
pub(super) struct PageBuffer {
    memory: Memory,
    len: usize,
}

enum Memory {
    /// Behind the page may be what is left of others.
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl PageBuffer {
    /// One with this much room, of which so much is likely to be used.
    pub(super) fn new(len: usize, likely: usize) -> Self {
        let memory = if len < LARGE { None } else { map(len, likely.min(len)) };
        let memory = memory.map_or_else(|| heap(len), Memory::Mapped);
        Self { memory, len }
    }

    pub(super) fn room(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Heap(bytes) => &mut bytes[..self.len],
            Memory::Mapped(bytes) => &mut bytes[..self.len],
        }
    }

    /// The page that the room begins with.
    pub(super) fn page(mut self, len: usize) -> Bytes {
        self.len = len.min(self.len);
        Bytes::from_owner(self)
    }
}

/// `None` if the system does not give it like that.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "given page by page there"))]
fn map(len: usize, likely: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(len.checked_next_multiple_of(HUGE_PAGE)?).ok()?;
    #[cfg(target_os = "linux")]
    {
        // without huge pages it is slower, and that is all
        let _ = map.advise(memmap2::Advice::HugePage);
        // in one go, where the system can: small pages took half as long again one by one
        let _ = map.advise_range(memmap2::Advice::PopulateWrite, 0, likely);
    }
    Some(map)
}

fn heap(len: usize) -> Memory {
    let mut bytes = SPARE.take();
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
    Memory::Heap(bytes)
}

impl AsRef<[u8]> for PageBuffer {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => &bytes[..self.len],
            Memory::Mapped(bytes) => &bytes[..self.len],
        }
    }
}

impl Drop for PageBuffer {
    fn drop(&mut self) {
        if let Memory::Heap(bytes) = &mut self.memory
            && bytes.len() <= MOST_KEPT
        {
            let bytes = std::mem::take(bytes);
            // none is kept by a thread that ends
            let _ = SPARE.try_with(|spare| spare.set(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &[u8], room: usize) -> Bytes {
        let mut buffer = PageBuffer::new(room, room);
        assert_eq!(buffer.room().len(), room);
        buffer.room()[..text.len()].copy_from_slice(text);
        buffer.page(text.len())
    }

    #[test]
    fn buffers_are_used_again_and_show_nothing_of_another_page() {
        drop(page(&b"long 1\n".repeat(1000), 7000));
        let room = SPARE.take();
        assert!(room.len() >= 7000);
        let at = room.as_ptr();
        SPARE.set(room);
        // as long as two pages are there at once, they do not share one
        let (one, two) = (page(b"a 1\n", 70), page(b"b 22\n", 80));
        assert_eq!((one.as_ptr(), &one[..], &two[..]), (at, &b"a 1\n"[..], &b"b 22\n"[..]));
    }

    #[test]
    fn large_ones_are_not_kept() {
        SPARE.take();
        for room in [MOST_KEPT + 1, LARGE - 1, LARGE, LARGE + 1, 2 * LARGE] {
            let text = b"x".repeat(room - 1);
            assert_eq!(page(&text, room), text);
            assert_eq!(SPARE.take().capacity(), 0, "{room}");
        }
    }
}

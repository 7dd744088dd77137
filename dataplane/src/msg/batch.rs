//! One frag, many items: the header all batches share, and the cursors over the items.
//!
//! ```text
//! 0             4       6      8       16      20       24    28       32       40
//! | incarnation | items | kind | epoch | block | height | mtp | rules  | spare  | item | item | ...
//! ```

use super::wire::{In, Out};
use super::{Context, Epoch};

/// What stands in front of the items of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BatchHeader {
    /// The newest epoch the sender acted in.
    pub epoch: Epoch,
    /// The context of every item.
    pub context: Context,
    /// Number of items.
    pub items: u16,
}

impl BatchHeader {
    /// Bytes in front of the first item.
    pub const LEN: usize = 40;

    fn write(&self, out: &mut Out<'_>) {
        out.u32(self.epoch.incarnation);
        out.u16(self.items);
        out.u16(0);
        out.u64(self.epoch.number);
        out.u32(self.context.block);
        out.u32(self.context.height);
        out.u32(self.context.median_time_past);
        out.u32(self.context.rule_set);
        out.u64(0);
    }

    fn read(r: &mut In<'_>) -> Option<Self> {
        let incarnation = r.u32()?;
        let items = r.u16()?;
        r.u16()?;
        let number = r.u64()?;
        let context = Context {
            block: r.u32()?,
            height: r.u32()?,
            median_time_past: r.u32()?,
            rule_set: r.u32()?,
        };
        r.u64()?;
        Some(Self { epoch: Epoch { incarnation, number }, context, items })
    }
}

/// An item that knows its bytes.
pub trait Item<'a>: Sized {
    /// Appends the item; false when it does not fit, and then nothing of it counts.
    fn encode(&self, buf: &mut [u8]) -> Option<usize>;
    /// Takes one item from the front; gives it and how many bytes it took.
    fn decode(bytes: &'a [u8]) -> Option<(Self, usize)>;
}

/// Fills a frag's buffer with items.
#[derive(Debug)]
pub struct BatchWriter<'a> {
    buf: &'a mut [u8],
    header: BatchHeader,
    at: usize,
}

impl<'a> BatchWriter<'a> {
    /// Starts a batch in `buf` (at least [`BatchHeader::LEN`] bytes).
    pub fn new(buf: &'a mut [u8], epoch: Epoch, context: Context) -> Self {
        assert!(buf.len() >= BatchHeader::LEN, "a batch needs {} bytes", BatchHeader::LEN);
        Self { buf, header: BatchHeader { epoch, context, items: 0 }, at: BatchHeader::LEN }
    }

    /// Goes on with a batch whose first `items` items fill `buf` up to `at`, for who collects items over several calls.
    pub fn resume(
        buf: &'a mut [u8],
        epoch: Epoch,
        context: Context,
        items: u16,
        at: usize,
    ) -> Self {
        assert!((BatchHeader::LEN..=buf.len()).contains(&at), "a batch cannot end at byte {at}");
        Self { buf, header: BatchHeader { epoch, context, items }, at }
    }

    /// Bytes so far, header included.
    pub fn bytes(&self) -> usize {
        self.at
    }

    /// Appends an item; false when it does not fit any more.
    #[inline]
    pub fn push<'i>(&mut self, item: &impl Item<'i>) -> bool {
        if self.header.items == u16::MAX {
            return false;
        }
        match item.encode(&mut self.buf[self.at..]) {
            Some(len) => {
                self.at += len;
                self.header.items += 1;
                true
            }
            None => false,
        }
    }

    /// Appends an item that was encoded before; false when it does not fit any more.
    #[inline]
    pub fn push_encoded(&mut self, item: &[u8]) -> bool {
        match self.buf.get_mut(self.at..self.at + item.len()) {
            Some(place) if self.header.items < u16::MAX => {
                place.copy_from_slice(item);
                self.at += item.len();
                self.header.items += 1;
                true
            }
            _ => false,
        }
    }

    /// Items so far.
    pub fn items(&self) -> u16 {
        self.header.items
    }

    /// Writes the header and gives the length of the frag.
    pub fn finish(self) -> usize {
        let mut out = Out::new(&mut self.buf[..BatchHeader::LEN]);
        self.header.write(&mut out);
        self.at
    }
}

/// Walks the items of a received batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchReader<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    left: u16,
}

impl<'a> BatchReader<'a> {
    /// Reads the header; `None` if the frag is too short to hold one.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let header = BatchHeader::read(&mut r)?;
        Some(Self { header, rest: r.rest(), left: header.items })
    }

    /// Epoch, context and count.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The next item. `None` at the end; [`BatchReader::is_done`] tells an end from bytes that are no item.
    #[inline]
    pub fn next_item<T: Item<'a>>(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        let (item, len) = T::decode(self.rest)?;
        self.rest = &self.rest[len..];
        self.left -= 1;
        Some(item)
    }

    /// True when every item was taken and nothing is left over.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.rest.is_empty()
    }
}

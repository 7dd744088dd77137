//! The transaction parser: total, resumable, without allocation of its own.
//!
//! It reads counts and lengths and steps over scripts without touching them, so its cost is items, not bytes, and
//! `max_items` bounds a turn. A claimed count reserves nothing. An error names the offset of the field that could not be
//! read; a `Truncated` error leaves the parser before that item, so a caller whose bytes still arrive may call again with
//! a longer slice of the same transaction.

use super::layout::{InputSpan, OutputSpan};
use super::{EXTENDED_MARKER, TxLayout, TxView};
use crate::wire::{ParseError, ParseErrorKind, Reader};

/// Version, two empty lists, lock time.
const EMPTY_TX_BYTES: usize = 10;

/// Which serialisations are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// Raw only: blocks, the P2P network. The marker of the extended format is then two empty lists and a lock time.
    Raw = 0,
    /// Extended only.
    Extended = 1,
    /// Either; the marker decides. (What is also a raw transaction without inputs and outputs is read as extended, since more
    /// bytes may follow; [`parse`] knows that none do.)
    Either = 2,
}

/// What the parser is willing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one transaction as it comes, extension included.
    pub max_bytes: u32,
    /// Accepted serialisations.
    pub format: Format,
}

impl Limits {
    /// Consensus: 1,000,000,000 raw bytes and room for extensions (the raw size is a rule, judged by `rules`).
    pub const CONSENSUS: Self = Self { max_bytes: u32::MAX, format: Format::Either };
    /// As [`Self::CONSENSUS`], raw only: inside blocks and P2P messages.
    pub const RAW: Self = Self { max_bytes: u32::MAX, format: Format::Raw };
}

impl Default for Limits {
    fn default() -> Self {
        Self::CONSENSUS
    }
}

/// What a call to [`TxParser::advance`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Progress {
    /// The item budget is used up; call again.
    More = 0,
    /// The transaction is complete; the layout can be viewed.
    Done = 1,
    /// The next item does not fit into a layout of fixed capacity; parse into a growing one elsewhere.
    LayoutFull = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Inputs { left: u64 },
    Outputs { left: u64 },
    LockTime,
    Done,
}

/// Parses one transaction, in as many calls as the caller likes.
#[derive(Debug, Clone)]
pub struct TxParser {
    limits: Limits,
    stage: Stage,
    at: usize,
}

impl TxParser {
    /// Starts before the first byte.
    pub fn new(limits: Limits) -> Self {
        Self { limits, stage: Stage::Head, at: 0 }
    }

    /// Bytes read so far; after `Done`, the size of the transaction.
    pub fn used_bytes(&self) -> usize {
        self.at
    }

    /// Reads at most `max_items` inputs and outputs.
    ///
    /// `bytes` starts with the transaction and may go on behind it; `layout` is the same at every call (the first call
    /// clears it).
    pub fn advance(
        &mut self,
        bytes: &[u8],
        layout: &mut TxLayout,
        max_items: usize,
    ) -> Result<Progress, ParseError> {
        let limit = self.limits.max_bytes as usize;
        let window = &bytes[..bytes.len().min(limit)];
        self.step(window, layout, max_items).map_err(|e| {
            // What is missing behind the limit is not missing bytes but too many of them.
            match e.kind {
                ParseErrorKind::Truncated { missing }
                    if window.len() as u64 + missing > limit as u64 =>
                {
                    ParseError { kind: ParseErrorKind::TooLarge { limit: limit as u64 }, ..e }
                }
                _ => e,
            }
        })
    }

    fn step(
        &mut self,
        bytes: &[u8],
        layout: &mut TxLayout,
        max_items: usize,
    ) -> Result<Progress, ParseError> {
        let mut items = max_items;
        loop {
            let mut r = Reader::at(bytes, self.at);
            match self.stage {
                Stage::Head => {
                    layout.clear();
                    let left = self.head(&mut r, layout)?;
                    self.stage = Stage::Inputs { left };
                }
                Stage::Inputs { left: 0 } => {
                    layout.output_count_at = self.at as u32;
                    self.stage = Stage::Outputs { left: r.compact_size()? };
                }
                Stage::Inputs { left } => {
                    if items == 0 {
                        return Ok(Progress::More);
                    }
                    if !layout.has_room_for_input() {
                        return Ok(Progress::LayoutFull);
                    }
                    let (span, extension) = read_input(&mut r, layout.extended)?;
                    layout.inputs.push(span);
                    layout.extension_bytes += extension;
                    self.stage = Stage::Inputs { left: left - 1 };
                    items -= 1;
                }
                Stage::Outputs { left: 0 } => self.stage = Stage::LockTime,
                Stage::Outputs { left } => {
                    if items == 0 {
                        return Ok(Progress::More);
                    }
                    if !layout.has_room_for_output() {
                        return Ok(Progress::LayoutFull);
                    }
                    layout.outputs.push(read_output(&mut r)?);
                    self.stage = Stage::Outputs { left: left - 1 };
                    items -= 1;
                }
                Stage::LockTime => {
                    r.take(4)?;
                    layout.total_bytes = r.offset() as u32;
                    layout.done = true;
                    self.stage = Stage::Done;
                }
                Stage::Done => return Ok(Progress::Done),
            }
            self.at = r.offset();
        }
    }

    /// Version, marker, input count.
    fn head(&self, r: &mut Reader<'_>, layout: &mut TxLayout) -> Result<u64, ParseError> {
        r.take(4)?;
        if self.limits.format != Format::Raw && r.remaining() < EXTENDED_MARKER.len() {
            // Every transaction has six bytes here; without them the format cannot be told.
            r.take(EXTENDED_MARKER.len())?;
        }
        let marked = r.rest().starts_with(&EXTENDED_MARKER);
        layout.extended = match self.limits.format {
            Format::Raw => false,
            Format::Either => marked,
            Format::Extended if marked => true,
            Format::Extended => return Err(r.error(ParseErrorKind::WrongFormat)),
        };
        if layout.extended {
            r.take(6)?;
            layout.extension_bytes = 6;
        }
        r.compact_size()
    }
}

/// One input; the second value is the size of its extension.
#[inline]
fn read_input(r: &mut Reader<'_>, extended: bool) -> Result<(InputSpan, u32), ParseError> {
    r.take(36)?;
    let len = r.var_bytes()?.len();
    let unlocking_end = r.offset();
    r.take(4)?;
    let mut span = InputSpan {
        unlocking_at: (unlocking_end - len) as u32,
        unlocking_end: unlocking_end as u32,
        coin_at: 0,
        coin_end: 0,
    };
    let raw_end = r.offset();
    if extended {
        r.take(8)?;
        let len = r.var_bytes()?.len();
        span.coin_end = r.offset() as u32;
        span.coin_at = span.coin_end - len as u32;
    }
    Ok((span, (r.offset() - raw_end) as u32))
}

#[inline]
fn read_output(r: &mut Reader<'_>) -> Result<OutputSpan, ParseError> {
    r.take(8)?;
    let len = r.var_bytes()?.len();
    let end = r.offset() as u32;
    Ok(OutputSpan { locking_at: end - len as u32, locking_end: end })
}

/// Parses bytes that are exactly one transaction, in either format.
///
/// A layout of fixed capacity that is too small gives `TooMany`.
pub fn parse<'a>(bytes: &'a [u8], layout: &'a mut TxLayout) -> Result<TxView<'a>, ParseError> {
    // Ten bytes that end with the marker are the raw transaction without inputs and outputs.
    let limits = if bytes.len() == EMPTY_TX_BYTES { Limits::RAW } else { Limits::CONSENSUS };
    let view = parse_prefix(bytes, layout, limits)?;
    let used = view.bytes().len();
    if used < bytes.len() {
        let extra = (bytes.len() - used) as u64;
        return Err(ParseError::new(used, ParseErrorKind::TrailingBytes { extra }));
    }
    Ok(view)
}

/// Parses one transaction at the start of `bytes`; `view.bytes().len()` is what it used.
pub fn parse_prefix<'a>(
    bytes: &'a [u8],
    layout: &'a mut TxLayout,
    limits: Limits,
) -> Result<TxView<'a>, ParseError> {
    let mut parser = TxParser::new(limits);
    match parser.advance(bytes, layout, usize::MAX)? {
        Progress::Done => Ok(TxView::new(&bytes[..parser.used_bytes()], layout)),
        Progress::LayoutFull | Progress::More => {
            let found = (layout.input_count() + layout.output_count()) as u64;
            let kind = ParseErrorKind::TooMany { got: found + 1, limit: found };
            Err(ParseError::new(parser.used_bytes(), kind))
        }
    }
}

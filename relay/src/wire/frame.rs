//! Frames: what the object layers of two relays say to each other.
//!
//! In: the authenticated bytes of a packet. Out: views over them. A frame that parses has lengths that agree, values that
//! exist and zeros where zeros belong; whether it fits the object it names is the object layer's question.
//!
//! ```text
//!          8        16        20      22    23   24            25     26      28          32
//!  DATA    u64 obj  u32 len   u16 grp u8 sym u8 k u8 code|class u8 hops u16 r  u32 tx_time payload, 1 to 1,184
//!  NACK    u64 obj  u32 len   u16 count      zero                            u32 tx_time count x { u16 group, u8 need, zero }
//!  STOP    u64 obj  u32 len   u16 count      zero                            u32 tx_time count x u16 group
//!  WANT    u64 obj  u8 form   zero                                           u32 tx_time zero or more bytes of the form
//!  ROOT    u64 obj  u32 len   u16 grp u8 n   zero                            u32 tx_time root 32, signature 64
//! ```

use super::{
    BODY_MAX, Class, Code, DataFields, HEADER_LEN, Kind, ObjectId, WireError, exact, flags,
    only_flags, u16_at, u32_at, u64_at, zero,
};

/// An authentic frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// A symbol.
    Data(Data<'a>),
    /// These groups need more symbols.
    Nack(Nack<'a>),
    /// These groups, or the object, need no more.
    Stop(Stop<'a>),
    /// Another form of the object, please.
    Want(Want<'a>),
    /// The signed root of a group's symbols.
    Root(Root<'a>),
}

/// A symbol of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Data<'a> {
    /// Which symbol of which object.
    pub fields: DataFields,
    /// The symbol, and the origin's proof where the flag says so; never empty.
    pub payload: &'a [u8],
}

/// A request for repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nack<'a> {
    /// Which object.
    pub object: ObjectId,
    /// Its length in bytes.
    pub object_len: u32,
    entries: &'a [u8],
}

/// One line of a [`Nack`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NackEntry {
    /// Which group.
    pub group: u16,
    /// How many symbols it lacks.
    pub need: u8,
}

/// A request for silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop<'a> {
    /// [`flags::HAVE_ALL`] or [`flags::REFUSED`], or neither.
    pub flags: u8,
    /// Which object.
    pub object: ObjectId,
    /// Its length in bytes; 0 when the sender does not know.
    pub object_len: u32,
    /// The groups that need no more; none of them when the whole object is meant.
    pub groups: Groups<'a>,
}

/// Group numbers in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups<'a>(&'a [u8]);

/// A request for another form of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want<'a> {
    /// Which object.
    pub object: ObjectId,
    /// Which form.
    pub form: u8,
    /// What the form needs to know.
    pub body: &'a [u8],
}

/// The root of a group's symbols, signed by the object's origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root<'a> {
    /// Which object.
    pub object: ObjectId,
    /// Its length in bytes.
    pub object_len: u32,
    /// Which group.
    pub group: u16,
    /// Leaves below the root.
    pub leaves: u8,
    /// The root.
    pub root: &'a [u8; 32],
    /// Ed25519 over what `docs/bfr.md` says.
    pub signature: &'a [u8; 64],
}

/// Bytes of one [`NackEntry`].
pub const NACK_ENTRY_LEN: usize = 4;
const ROOT_LEN: usize = 32;
const SIGNATURE_LEN: usize = 64;

impl<'a> Frame<'a> {
    pub(super) fn parse(kind: Kind, bytes: &'a [u8]) -> Result<Self, WireError> {
        let body = &bytes[HEADER_LEN..];
        if body.len() > BODY_MAX {
            let expected = HEADER_LEN + BODY_MAX;
            return Err(WireError::Length { kind: bytes[0], got: bytes.len(), expected });
        }
        let object = ObjectId(u64_at(bytes, 8));
        let object_len = u32_at(bytes, 16);
        match kind {
            Kind::Data => {
                let allowed = flags::HAVE_ALL | flags::ORIGIN_PROOF | flags::LOWPRIO | flags::LAST;
                let k = bytes[23];
                let field = |at| WireError::Field { at };
                if body.is_empty() {
                    return Err(WireError::Length {
                        kind: bytes[0],
                        got: HEADER_LEN,
                        expected: 33,
                    });
                }
                if object_len == 0 {
                    return Err(field(16));
                }
                if k == 0 {
                    return Err(field(23));
                }
                let fields = DataFields {
                    flags: only_flags(bytes, allowed)?,
                    object,
                    object_len,
                    group: u16_at(bytes, 20),
                    symbol: bytes[22],
                    k,
                    code: Code::of(bytes[24] >> 4).ok_or(field(24))?,
                    class: Class::of(bytes[24] & 0x0f).ok_or(field(24))?,
                    hops_left: bytes[25],
                    parity: u16_at(bytes, 26),
                };
                Ok(Self::Data(Data { fields, payload: body }))
            }
            Kind::Nack => {
                only_flags(bytes, 0)?;
                zero(bytes, 22, 28)?;
                let count = usize::from(u16_at(bytes, 20));
                exact(bytes, HEADER_LEN + count * NACK_ENTRY_LEN)?;
                for at in 0..count {
                    let at = HEADER_LEN + at * NACK_ENTRY_LEN;
                    if bytes[at + 2] == 0 || bytes[at + 3] != 0 {
                        return Err(WireError::Field { at: at + 2 });
                    }
                }
                Ok(Self::Nack(Nack { object, object_len, entries: body }))
            }
            Kind::Stop => {
                let flags = only_flags(bytes, flags::HAVE_ALL | flags::REFUSED)?;
                zero(bytes, 22, 28)?;
                let count = usize::from(u16_at(bytes, 20));
                exact(bytes, HEADER_LEN + count * 2)?;
                Ok(Self::Stop(Stop { flags, object, object_len, groups: Groups(body) }))
            }
            Kind::Want => {
                only_flags(bytes, 0)?;
                zero(bytes, 17, 28)?;
                Ok(Self::Want(Want { object, form: bytes[16], body }))
            }
            Kind::Root => {
                only_flags(bytes, 0)?;
                zero(bytes, 23, 28)?;
                exact(bytes, HEADER_LEN + ROOT_LEN + SIGNATURE_LEN)?;
                let (root, signature) = body.split_at(ROOT_LEN);
                Ok(Self::Root(Root {
                    object,
                    object_len,
                    group: u16_at(bytes, 20),
                    leaves: bytes[22],
                    root: root.try_into().expect("the length was checked"),
                    signature: signature.try_into().expect("the length was checked"),
                }))
            }
            Kind::Hello | Kind::Answer | Kind::Keep | Kind::Close => {
                Err(WireError::Kind { got: bytes[0] })
            }
        }
    }

    /// Which object it is about.
    pub fn object(&self) -> ObjectId {
        match self {
            Self::Data(data) => data.fields.object,
            Self::Nack(nack) => nack.object,
            Self::Stop(stop) => stop.object,
            Self::Want(want) => want.object,
            Self::Root(root) => root.object,
        }
    }
}

impl<'a> Nack<'a> {
    /// Its lines.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = NackEntry> + use<'a> {
        self.entries
            .chunks_exact(NACK_ENTRY_LEN)
            .map(|entry| NackEntry { group: u16_at(entry, 0), need: entry[2] })
    }
}

impl<'a> Groups<'a> {
    /// The numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + use<'a> {
        self.0.chunks_exact(2).map(|group| u16_at(group, 0))
    }

    /// Whether no group is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

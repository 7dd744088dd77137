//! The one buffer in which a packet is made: the object layer writes its fields and payload, the link seals it in place.
//!
//! In: fields. Out: a datagram without its key id, number, time and tag, which the session adds. Nothing is copied in between.

use super::frame::NACK_ENTRY_LEN;
use super::keep::KEEP_LEN;
use super::{
    BODY_MAX, Class, Code, HEADER_LEN, Keep, Kind, NackEntry, ObjectId, PACKET_MAX, TAG_LEN,
};

/// Which symbol of which object a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataFields {
    /// [`super::flags::HAVE_ALL`], `ORIGIN_PROOF`, `LOWPRIO`, `LAST`.
    pub flags: u8,
    /// Which object.
    pub object: ObjectId,
    /// Its length in bytes, never 0.
    pub object_len: u32,
    /// Which group of it.
    pub group: u16,
    /// Which symbol of the group: data below `k`, parity from there.
    pub symbol: u8,
    /// Data symbols of the largest group, never 0.
    pub k: u8,
    /// How the symbols belong together.
    pub code: Code,
    /// What the object is.
    pub class: Class,
    /// How often it may still be passed on.
    pub hops_left: u8,
    /// Parity symbols that the sender means to send for this group.
    pub parity: u16,
}

/// A packet in the making.
#[derive(Clone, Debug)]
pub struct FrameBuf {
    bytes: [u8; PACKET_MAX],
    /// Header and body, without the tag; 0 while nothing was written.
    len: usize,
}

impl Default for FrameBuf {
    fn default() -> Self {
        Self { bytes: [0; PACKET_MAX], len: 0 }
    }
}

impl FrameBuf {
    /// Most entries of one `NACK`.
    pub const NACK_ENTRIES_MAX: usize = BODY_MAX / NACK_ENTRY_LEN;
    /// Most groups of one `STOP`.
    pub const STOP_GROUPS_MAX: usize = BODY_MAX / 2;

    /// Starts a symbol and gives its payload to be filled, `payload_len` bytes with any content.
    pub fn data(&mut self, fields: &DataFields, payload_len: usize) -> &mut [u8] {
        assert!((1..=BODY_MAX).contains(&payload_len), "a payload of {payload_len} bytes");
        let out = self.start(Kind::Data, fields.flags, HEADER_LEN + payload_len);
        out[8..16].copy_from_slice(&fields.object.0.to_le_bytes());
        out[16..20].copy_from_slice(&fields.object_len.to_le_bytes());
        out[20..22].copy_from_slice(&fields.group.to_le_bytes());
        out[22] = fields.symbol;
        out[23] = fields.k;
        out[24] = (fields.code as u8) << 4 | fields.class as u8;
        out[25] = fields.hops_left;
        out[26..28].copy_from_slice(&fields.parity.to_le_bytes());
        &mut out[HEADER_LEN..]
    }

    /// Writes a `NACK`; entries beyond [`Self::NACK_ENTRIES_MAX`] stay with the caller. Gives how many went in.
    pub fn nack(
        &mut self,
        object: ObjectId,
        object_len: u32,
        entries: impl IntoIterator<Item = NackEntry>,
    ) -> usize {
        let out = self.start(Kind::Nack, 0, PACKET_MAX - TAG_LEN);
        let slots = out[HEADER_LEN..].chunks_exact_mut(NACK_ENTRY_LEN);
        let mut count = 0;
        for (slot, entry) in slots.zip(entries) {
            assert!(entry.need > 0, "group {} needs nothing", entry.group);
            slot[..2].copy_from_slice(&entry.group.to_le_bytes());
            slot[2] = entry.need;
            slot[3] = 0;
            count += 1;
        }
        self.about(object, object_len, count);
        self.len = HEADER_LEN + count * NACK_ENTRY_LEN;
        count
    }

    /// Writes a `STOP`; groups beyond [`Self::STOP_GROUPS_MAX`] stay with the caller. Gives how many went in.
    pub fn stop(
        &mut self,
        flags: u8,
        object: ObjectId,
        object_len: u32,
        groups: impl IntoIterator<Item = u16>,
    ) -> usize {
        let out = self.start(Kind::Stop, flags, PACKET_MAX - TAG_LEN);
        let mut count = 0;
        for (slot, group) in out[HEADER_LEN..].chunks_exact_mut(2).zip(groups) {
            slot.copy_from_slice(&group.to_le_bytes());
            count += 1;
        }
        self.about(object, object_len, count);
        self.len = HEADER_LEN + count * 2;
        count
    }

    /// Writes a `WANT`.
    pub fn want(&mut self, object: ObjectId, form: u8, body: &[u8]) {
        assert!(body.len() <= BODY_MAX, "a body of {} bytes", body.len());
        let out = self.start(Kind::Want, 0, HEADER_LEN + body.len());
        out[8..16].copy_from_slice(&object.0.to_le_bytes());
        out[16] = form;
        out[HEADER_LEN..].copy_from_slice(body);
    }

    /// Writes a `ROOT`.
    pub fn root(
        &mut self,
        object: ObjectId,
        object_len: u32,
        group: u16,
        leaves: u8,
        root: &[u8; 32],
        signature: &[u8; 64],
    ) {
        let out = self.start(Kind::Root, 0, HEADER_LEN + 96);
        out[22] = leaves;
        out[HEADER_LEN..HEADER_LEN + 32].copy_from_slice(root);
        out[HEADER_LEN + 32..].copy_from_slice(signature);
        self.about(object, object_len, usize::from(group));
    }

    /// Writes a `KEEP`.
    pub fn keep(&mut self, keep: &Keep) {
        keep.write(self.start(Kind::Keep, 0, KEEP_LEN));
    }

    /// Writes a `CLOSE`.
    pub fn close(&mut self) {
        self.start(Kind::Close, 0, HEADER_LEN);
    }

    /// Takes any bytes as header and body: for tests that play a peer without manners. The session's fields are overwritten, and
    /// so is nothing else.
    pub fn any(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(PACKET_MAX - TAG_LEN);
        let out = self.start(Kind::Close, 0, len.max(HEADER_LEN));
        out[..len].copy_from_slice(&bytes[..len]);
        // Without a version and a type of sessions the packet would be thrown away before its tag is checked.
        out[0] =
            Kind::Keep.byte() & 0xf0 | (out[0] & 0x0f).clamp(Kind::Keep as u8, Kind::Root as u8);
    }

    /// Header and body as far as they are written.
    pub fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Lets the session add what is its own; `tag` sees everything before it. Gives the datagram's length.
    pub fn seal(
        &mut self,
        key_id: u16,
        link_seq: u32,
        tx_time_us: u32,
        tag: impl FnOnce(&[u8]) -> [u8; TAG_LEN],
    ) -> usize {
        assert!(self.len >= HEADER_LEN, "sealing a packet that nobody wrote");
        self.bytes[2..4].copy_from_slice(&key_id.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&link_seq.to_le_bytes());
        self.bytes[28..32].copy_from_slice(&tx_time_us.to_le_bytes());
        let tag = tag(&self.bytes[..self.len]);
        self.bytes[self.len..self.len + TAG_LEN].copy_from_slice(&tag);
        self.len + TAG_LEN
    }

    /// The first `len` bytes, as [`Self::seal`] counted them.
    pub fn datagram(&self, len: usize) -> &[u8] {
        &self.bytes[..len]
    }

    fn start(&mut self, kind: Kind, flags: u8, len: usize) -> &mut [u8] {
        self.bytes[..HEADER_LEN].fill(0);
        self.bytes[0] = kind.byte();
        self.bytes[1] = flags;
        self.len = len;
        &mut self.bytes[..len]
    }

    fn about(&mut self, object: ObjectId, object_len: u32, at_20: usize) {
        self.bytes[8..16].copy_from_slice(&object.0.to_le_bytes());
        self.bytes[16..20].copy_from_slice(&object_len.to_le_bytes());
        self.bytes[20..22].copy_from_slice(&(at_20 as u16).to_le_bytes());
    }
}

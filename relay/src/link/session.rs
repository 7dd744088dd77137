//! A session: two keys, a counter each way, a window.
//!
//! In: packets whose `key_id` is ours. Out: authentic bytes that were not heard before; datagrams with number, time and tag.
//! A session never outlives 2^31 packets or an hour; a new one takes over while this one still hears.

use super::handshake::{Greeting, SessionKeys};
use super::loss::LossEstimate;
use super::replay::ReplayWindow;
use crate::drops::DropReason;
use crate::plants::{self, Plant};
use crate::time::NowUs;
use crate::wire::{FrameBuf, Sealed};
use std::net::SocketAddr;

/// A new session is asked for after so many packets.
pub const REKEY_PACKETS: u32 = 1 << 31;
/// A new session is asked for after an hour.
pub const REKEY_US: u64 = 3_600_000_000;
/// An old session still hears what is on its way for so long.
pub const RETIRE_US: u64 = 10_000_000;

/// One session with a peer.
#[derive(Debug)]
pub struct Session {
    /// How the peer's packets name it.
    pub key_in: u16,
    /// What the peer said of itself; its `key_id` names the session in our packets.
    pub theirs: Greeting,
    /// Where the handshake came from.
    pub addr: SocketAddr,
    /// When the handshake ended here.
    pub made: NowUs,
    /// When something authentic was last heard in it.
    pub heard: NowUs,
    /// The peer has proved that it has the keys: by its answer, or by its first packet.
    pub confirmed: bool,
    /// Packets accepted.
    pub heard_count: u32,
    keys: SessionKeys,
    next_seq: u32,
    window: ReplayWindow,
    /// How far the loss estimate has looked.
    judged_to: u64,
}

impl Session {
    /// A session out of a handshake.
    pub fn new(
        key_in: u16,
        theirs: Greeting,
        keys: SessionKeys,
        addr: SocketAddr,
        confirmed: bool,
        now: NowUs,
    ) -> Self {
        Self {
            key_in,
            theirs,
            addr,
            made: now,
            heard: now,
            confirmed,
            heard_count: 0,
            keys,
            next_seq: 0,
            window: ReplayWindow::default(),
            judged_to: 0,
        }
    }

    /// Number, time and tag for what `frame` holds. `None` when all numbers are used up.
    pub fn seal<'a>(&mut self, frame: &'a mut FrameBuf, now: NowUs) -> Option<&'a [u8]> {
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1)?;
        let key_id = self.theirs.key_id;
        let send = &self.keys.send;
        let len = frame.seal(key_id, seq, now.low(), |bytes| send.tag(key_id, seq, bytes));
        Some(frame.datagram(len))
    }

    /// Lets an authentic, new packet in: window, then tag, then window again.
    pub fn open(&mut self, sealed: &Sealed<'_>, now: NowUs) -> Result<(), DropReason> {
        if !plants::is(Plant::ReplayUnchecked) {
            self.window.check(sealed.link_seq)?;
        }
        let (bytes, tag) = (sealed.authenticated, sealed.tag);
        let is_authentic = self.keys.receive.check(self.key_in, sealed.link_seq, bytes, tag);
        if !is_authentic && !plants::is(Plant::TagUnchecked) {
            return Err(DropReason::MacWrong);
        }
        self.window.accept(sealed.link_seq);
        self.heard = now;
        self.heard_count = self.heard_count.wrapping_add(1);
        Ok(())
    }

    /// Lets the estimate see what is new.
    pub fn judge(&mut self, loss: &mut LossEstimate) {
        loss.look(&self.window, &mut self.judged_to);
    }

    /// What was heard, by number.
    pub fn window(&self) -> &ReplayWindow {
        &self.window
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u32 {
        self.next_seq
    }
}

#[cfg(test)]
mod tests {
    use super::super::entropy::Entropy;
    use super::super::handshake::{Keys, call, called};
    use super::*;
    use crate::wire::{ObjectId, Packet};

    fn pair() -> (Session, Session) {
        let mut entropy = Entropy::new(&[4; 32], b"session");
        let (alice, bob) = (Keys::from_secret([1; 32]), Keys::from_secret([2; 32]));
        let greeting = |key_id| Greeting { key_id, receive_mbit: 0, incarnation: 9 };
        let (mut calling, hello) =
            call(&alice, bob.public(), 1, greeting(100), &mut entropy).expect("a good key");
        let called = called(&bob, &hello, 1, &mut entropy).expect("a true call");
        let said = called.greeting;
        let (answer, bobs) = called.answer(greeting(200)).expect("room for it");
        let (replied, alices) = calling.answered(&answer).expect("a true answer");
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        (
            Session::new(100, replied, alices, addr, true, NowUs(0)),
            Session::new(200, said, bobs, addr, false, NowUs(0)),
        )
    }

    #[test]
    fn what_one_seals_the_other_opens_once_and_nobody_else_ever() {
        let (mut alice, mut bob) = pair();
        let mut frame = FrameBuf::default();
        frame.want(ObjectId(1), 0, b"body");
        let datagram = alice.seal(&mut frame, NowUs(5)).expect("the first").to_vec();
        let Ok(Packet::Sealed(sealed)) = Packet::parse(&datagram) else { panic!("not sealed") };
        assert_eq!(sealed.key_id, 200, "named as the receiver named it");
        assert_eq!(bob.open(&sealed, NowUs(6)), Ok(()));
        assert_eq!(bob.open(&sealed, NowUs(7)), Err(DropReason::Replay));
        assert_eq!(alice.open(&sealed, NowUs(7)), Err(DropReason::MacWrong), "sent back to us");

        let second = alice.seal(&mut frame, NowUs(8)).expect("the second").to_vec();
        for at in 1..second.len() {
            let mut changed = second.clone();
            changed[at] ^= 0x10;
            if let Ok(Packet::Sealed(sealed)) = Packet::parse(&changed) {
                assert!(bob.open(&sealed, NowUs(9)).is_err(), "byte {at} changed unseen");
            }
        }
        assert_eq!(bob.heard_count, 1, "forgeries are not heard");
        let Ok(Packet::Sealed(sealed)) = Packet::parse(&second) else { panic!("not sealed") };
        assert_eq!(bob.open(&sealed, NowUs(9)), Ok(()), "and do not use up the number");
    }

    #[test]
    fn a_session_whose_numbers_are_used_up_seals_nothing() {
        let (mut alice, _) = pair();
        alice.next_seq = u32::MAX;
        let mut frame = FrameBuf::default();
        frame.close();
        assert!(alice.seal(&mut frame, NowUs(0)).is_none());
    }
}

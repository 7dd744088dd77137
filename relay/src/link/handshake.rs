//! The handshake: Noise IK over X25519, ChaCha20-Poly1305 and BLAKE2s.
//!
//! In: our static key, the peer's, a call's id. Out: a key for each direction, and the proof that the other end holds the
//! static key that was configured. IK, because both ends know each other's key beforehand: one message each way, and the
//! caller's identity is not shown to listeners. The library keeps its state on the heap while a message is worked on; that
//! happens only for an address that a cookie proved, at a bounded rate ([`super::gate`]), and is gone before the call returns.

use super::entropy::Entropy;
use super::mac::{Direction, MacKey};
use crate::drops::DropReason;
use crate::wire::{NOISE_1_LEN, NOISE_2_LEN, u16_at, u32_at, u64_at};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use std::fmt;

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8; 14] = b"MetaNode BFR 1";
const GREETING_LEN: usize = 16;

/// Our static key.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    secret: [u8; 32],
    public: [u8; 32],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Keys {
    /// The pair with this secret; any thirty-two random bytes are one.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let mut dh = DefaultResolver
            .resolve_dh(&DHChoice::Curve25519)
            .expect("the manifest asks for X25519");
        dh.set(&secret);
        Self { secret, public: dh.pubkey().try_into().expect("X25519 keys have 32 bytes") }
    }

    /// What peers are told.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// What nobody is told.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// What both ends say about themselves inside the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// How packets to the greeter name the session.
    pub key_id: u16,
    /// What the greeter can take; 0 when it sets no limit.
    pub receive_mbit: u32,
    /// Drawn when the greeter's process started.
    pub incarnation: u64,
}

impl Greeting {
    fn write(self) -> [u8; GREETING_LEN] {
        let mut out = [0; GREETING_LEN];
        out[..2].copy_from_slice(&self.key_id.to_le_bytes());
        out[4..8].copy_from_slice(&self.receive_mbit.to_le_bytes());
        out[8..].copy_from_slice(&self.incarnation.to_le_bytes());
        out
    }

    /// Later versions may use bytes 2 and 3; this one does not look.
    fn read(bytes: &[u8; GREETING_LEN]) -> Self {
        Self {
            key_id: u16_at(bytes, 0),
            receive_mbit: u32_at(bytes, 4),
            incarnation: u64_at(bytes, 8),
        }
    }
}

/// Keys of a new session.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    /// For what we send.
    pub send: MacKey,
    /// For what we hear.
    pub receive: MacKey,
}

/// A handshake that we started and that waits for its answer.
#[derive(Debug)]
pub struct Calling {
    state: Box<HandshakeState>,
}

/// The first message of somebody whose static key is now known.
#[derive(Debug)]
pub struct Called {
    state: Box<HandshakeState>,
    /// The caller's static key.
    pub public_key: [u8; 32],
    /// What the caller says.
    pub greeting: Greeting,
}

struct Resolver {
    seed: [u8; 32],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Entropy::new(&self.seed, b"handshake")))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn begin(keys: &Keys, call: u32, peer: Option<&[u8; 32]>, entropy: &mut Entropy) -> HandshakeState {
    let pattern = PATTERN.parse().expect("a pattern of the Noise specification");
    let mut prologue = [0; 18];
    prologue[..14].copy_from_slice(PROLOGUE);
    prologue[14..].copy_from_slice(&call.to_le_bytes());
    let builder = Builder::with_resolver(pattern, Box::new(Resolver { seed: entropy.draw() }))
        .local_private_key(&keys.secret)
        .and_then(|builder| builder.prologue(&prologue));
    let state = match peer {
        Some(peer) => builder
            .and_then(|builder| builder.remote_public_key(peer))
            .and_then(Builder::build_initiator),
        None => builder.and_then(Builder::build_responder),
    };
    state.expect("keys of the right length and nothing set twice")
}

fn split(state: &mut HandshakeState, we_called: bool) -> SessionKeys {
    let (from_caller, from_answerer) = state.dangerously_get_raw_split();
    let from_caller = MacKey::new(&from_caller, Direction::FromCaller);
    let from_answerer = MacKey::new(&from_answerer, Direction::FromAnswerer);
    if we_called {
        SessionKeys { send: from_caller, receive: from_answerer }
    } else {
        SessionKeys { send: from_answerer, receive: from_caller }
    }
}

/// Starts a handshake with `peer`; fails only when the configured key is not one that X25519 can work with.
pub fn call(
    keys: &Keys,
    peer: &[u8; 32],
    call: u32,
    greeting: Greeting,
    entropy: &mut Entropy,
) -> Result<(Calling, [u8; NOISE_1_LEN]), DropReason> {
    let mut state = begin(keys, call, Some(peer), entropy);
    let mut message = [0; NOISE_1_LEN];
    match state.write_message(&greeting.write(), &mut message) {
        Ok(NOISE_1_LEN) => Ok((Calling { state: Box::new(state) }, message)),
        _ => Err(DropReason::HandshakeWrong),
    }
}

/// Reads a call. `Ok` proves that the caller holds the static key it names (or repeats what somebody who does once sent).
pub fn called(
    keys: &Keys,
    message: &[u8; NOISE_1_LEN],
    call: u32,
    entropy: &mut Entropy,
) -> Result<Called, DropReason> {
    let mut state = begin(keys, call, None, entropy);
    let mut greeting = [0; GREETING_LEN];
    let read = state.read_message(message, &mut greeting);
    let public_key = state.get_remote_static().and_then(|key| key.try_into().ok());
    match (read, public_key) {
        (Ok(GREETING_LEN), Some(public_key)) => {
            Ok(Called { state: Box::new(state), public_key, greeting: Greeting::read(&greeting) })
        }
        _ => Err(DropReason::HandshakeWrong),
    }
}

impl Called {
    /// Answers the call; the session is the caller's for certain only when its first packet comes.
    pub fn answer(
        mut self,
        greeting: Greeting,
    ) -> Result<([u8; NOISE_2_LEN], SessionKeys), DropReason> {
        let mut message = [0; NOISE_2_LEN];
        match self.state.write_message(&greeting.write(), &mut message) {
            Ok(NOISE_2_LEN) => Ok((message, split(&mut self.state, false))),
            _ => Err(DropReason::HandshakeWrong),
        }
    }
}

impl Calling {
    /// Reads the answer. An answer that is not the peer's changes nothing: the true one may still come.
    pub fn answered(
        &mut self,
        message: &[u8; NOISE_2_LEN],
    ) -> Result<(Greeting, SessionKeys), DropReason> {
        let mut greeting = [0; GREETING_LEN];
        match self.state.read_message(message, &mut greeting) {
            Ok(GREETING_LEN) => Ok((Greeting::read(&greeting), split(&mut self.state, true))),
            _ => Err(DropReason::HandshakeWrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(key_id: u16) -> Greeting {
        Greeting { key_id, receive_mbit: 950, incarnation: u64::from(key_id) << 40 }
    }

    fn two() -> (Keys, Keys, Entropy) {
        let entropy = Entropy::new(&[1; 32], b"test");
        (Keys::from_secret([11; 32]), Keys::from_secret([22; 32]), entropy)
    }

    #[test]
    fn two_that_know_each_other_end_with_the_same_keys() {
        let (alice, bob, mut entropy) = two();
        let (mut calling, hello) =
            call(&alice, bob.public(), 7, greeting(1), &mut entropy).expect("a good key");
        let called = called(&bob, &hello, 7, &mut entropy).expect("a true call");
        assert_eq!(&called.public_key, alice.public());
        assert_eq!(called.greeting, greeting(1));
        let (answer, bobs) = called.answer(greeting(2)).expect("room for it");
        let (said, alices) = calling.answered(&answer).expect("a true answer");
        assert_eq!(said, greeting(2));
        let tag = alices.send.tag(2, 0, b"hello");
        assert!(bobs.receive.check(2, 0, b"hello", &tag));
        let tag = bobs.send.tag(1, 0, b"hello");
        assert!(alices.receive.check(1, 0, b"hello", &tag));
        assert!(!alices.send.check(1, 0, b"hello", &tag), "each direction has a key of its own");
    }

    #[test]
    fn a_call_is_good_for_its_id_and_its_receiver_only() {
        let (alice, bob, mut entropy) = two();
        let (_, hello) =
            call(&alice, bob.public(), 7, greeting(1), &mut entropy).expect("a good key");
        assert!(called(&bob, &hello, 8, &mut entropy).is_err(), "another id");
        assert!(called(&alice, &hello, 7, &mut entropy).is_err(), "another receiver");
        for at in 0..hello.len() {
            let mut changed = hello;
            changed[at] ^= 1;
            // The top bit of an X25519 coordinate is ignored; the transcript is not, so the change is seen nevertheless.
            assert!(called(&bob, &changed, 7, &mut entropy).is_err(), "byte {at} changed unseen");
        }
    }

    #[test]
    fn a_forged_answer_does_not_spoil_the_true_one() {
        let (alice, bob, mut entropy) = two();
        let (mut calling, hello) =
            call(&alice, bob.public(), 7, greeting(1), &mut entropy).expect("a good key");
        let forged = [0x5a; NOISE_2_LEN];
        assert!(calling.answered(&forged).is_err());
        let called = called(&bob, &hello, 7, &mut entropy).expect("a true call");
        let (answer, _) = called.answer(greeting(2)).expect("room for it");
        let mut changed = answer;
        changed[40] ^= 4;
        assert!(calling.answered(&changed).is_err());
        assert!(calling.answered(&answer).is_ok());
    }
}

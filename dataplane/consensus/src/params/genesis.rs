//! Genesis blocks, rebuilt from what makes them differ.
//!
//! Five networks share the coinbase of 2009; tstn has its own headline and key. Source: SV Node `chainparams.cpp`
//! `CreateGenesisBlock`; go-chaincfg `genesis.go`.

use super::{ChainParams, Network};
use crate::hash::{BlockHash, MerkleHash, hash_from_text};
use crate::header::Header;
use crate::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use crate::wire::write_compact_size;

pub(super) const MERKLE_2009: MerkleHash =
    MerkleHash(hash_from_text("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"));
pub(super) const MERKLE_2026: MerkleHash =
    MerkleHash(hash_from_text("64452e5b25c65e492ad6a4f5ce9f427ca986626c28315d88de920d66e28cc98f"));

const HEADLINE_2009: &str = "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks";
const HEADLINE_2026: &str =
    "The Times 01/Jul/2026 Starmer puts Burnham in \u{a3}5bn defence black hole";

#[rustfmt::skip]
const KEY_2009: [u8; 65] = [
    0x04, 0x67, 0x8a, 0xfd, 0xb0, 0xfe, 0x55, 0x48, 0x27, 0x19, 0x67, 0xf1, 0xa6,
    0x71, 0x30, 0xb7, 0x10, 0x5c, 0xd6, 0xa8, 0x28, 0xe0, 0x39, 0x09, 0xa6, 0x79,
    0x62, 0xe0, 0xea, 0x1f, 0x61, 0xde, 0xb6, 0x49, 0xf6, 0xbc, 0x3f, 0x4c, 0xef,
    0x38, 0xc4, 0xf3, 0x55, 0x04, 0xe5, 0x1e, 0xc1, 0x12, 0xde, 0x5c, 0x38, 0x4d,
    0xf7, 0xba, 0x0b, 0x8d, 0x57, 0x8a, 0x4c, 0x70, 0x2b, 0x6b, 0xf1, 0x1d, 0x5f,
];
#[rustfmt::skip]
const KEY_2026: [u8; 65] = [
    0x04, 0xa2, 0x16, 0xe8, 0x98, 0x88, 0x7c, 0x93, 0x5d, 0x15, 0xf9, 0xbe, 0x18,
    0xfb, 0x99, 0x41, 0x8b, 0xb7, 0xed, 0x0e, 0x19, 0x06, 0x92, 0x72, 0x88, 0x14,
    0xa1, 0xff, 0x75, 0x5c, 0xdf, 0x59, 0x90, 0xce, 0x8a, 0x1a, 0xea, 0x3b, 0xdd,
    0x72, 0x0d, 0xe2, 0x18, 0xb9, 0x51, 0x55, 0xf2, 0xb4, 0xae, 0xd5, 0xc6, 0x5e,
    0x63, 0xbf, 0x72, 0x64, 0xb7, 0x61, 0xb8, 0x7a, 0x27, 0xdc, 0x0d, 0x6a, 0x73,
];

pub(super) const fn header(
    merkle_root: MerkleHash,
    time_s: u32,
    n_bits: u32,
    nonce: u32,
) -> Header {
    Header { version: 1, prev: BlockHash::ZERO, merkle_root, time_s, n_bits, nonce }
}

/// The coinbase: pushes 0x1d00ffff, 4 and the headline; pays 50 coins to a key that nobody can spend, since the genesis
/// coinbase is not in the UTXO set.
pub(super) fn coinbase(network: Network) -> Tx {
    let (headline, key) = match network {
        Network::Tstn => (HEADLINE_2026, &KEY_2026),
        _ => (HEADLINE_2009, &KEY_2009),
    };
    let mut unlocking_script = vec![4, 0xff, 0xff, 0x00, 0x1d, 1, 4, headline.len() as u8];
    unlocking_script.extend_from_slice(headline.as_bytes());
    let mut locking_script = vec![65];
    locking_script.extend_from_slice(key);
    locking_script.push(0xac);
    Tx {
        version: 1,
        inputs: vec![TxIn {
            prev: OutPoint::NULL,
            unlocking_script,
            sequence: SEQUENCE_FINAL,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat: 5_000_000_000, locking_script }],
        lock_time: 0,
    }
}

pub(super) fn block(params: &ChainParams) -> Vec<u8> {
    let mut out = params.genesis_header.to_bytes().to_vec();
    write_compact_size(&mut out, 1);
    coinbase(params.network).write(&mut out);
    out
}

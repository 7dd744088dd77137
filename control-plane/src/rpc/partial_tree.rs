//! Partial merkle trees: the proof `gettxoutproof` gives and `verifytxoutproof` reads (BIP37's `merkleblock`).
//!
//! In: a header, the txids of its block and which of them to prove. Out: bytes, and back. A depth-first walk writes one bit a
//! node (is anything below it proved?) and the hash of every node where the walk stops. Reading is total and checks
//! that everything was used and that the root is the header's. Source: SV Node `merkleblock.cpp`.

use consensus::hash::{MerkleHash, TxId, merkle_parent};
use consensus::header::Header;
use consensus::wire::{Reader, write_compact_size};

/// Most transactions of a block that a proof is read for: nothing smaller than 60 bytes is a transaction, and no block is
/// larger than 4 GiB here.
const TXS_MAX: u32 = (u32::MAX / 60) + 1;

/// The proof that `matches` are in the block, hex apart.
pub fn build(header: &Header, txids: &[TxId], is_match: impl Fn(&TxId) -> bool) -> Vec<u8> {
    let leaves: Vec<([u8; 32], bool)> = txids.iter().map(|txid| (txid.0, is_match(txid))).collect();
    // Every level with its nodes: hash, and whether anything below is a match.
    let mut levels = vec![leaves];
    while let Some(level) = levels.last()
        && level.len() > 1
    {
        let next = level
            .chunks(2)
            .map(|pair| {
                let right = pair.last().unwrap_or(&pair[0]);
                (merkle_parent(&pair[0].0, &right.0), pair.iter().any(|node| node.1))
            })
            .collect();
        levels.push(next);
    }
    let (mut bits, mut hashes) = (Vec::new(), Vec::new());
    // A stack of (level, position) walks the tree from its root, left before right.
    let mut todo = vec![(levels.len() - 1, 0usize)];
    while let Some((level, at)) = todo.pop() {
        let Some(&(hash, below)) = levels[level].get(at) else { continue };
        bits.push(below);
        if level == 0 || !below {
            hashes.push(hash);
        } else {
            todo.push((level - 1, at * 2 + 1));
            todo.push((level - 1, at * 2));
        }
    }
    let mut out = header.to_bytes().to_vec();
    out.extend_from_slice(&(txids.len() as u32).to_le_bytes());
    write_compact_size(&mut out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(hash));
    let bytes = bits.chunks(8).map(|chunk| {
        chunk.iter().enumerate().fold(0u8, |byte, (i, bit)| byte | u8::from(*bit) << i)
    });
    write_compact_size(&mut out, bits.len().div_ceil(8) as u64);
    out.extend(bytes);
    out
}

/// A proof that was read: the header it is for and the transactions it proves, in block order.
#[derive(Debug)]
pub struct Proved {
    /// The header whose root the proof has.
    pub header: Header,
    /// What is proved to be in its block.
    pub txids: Vec<TxId>,
}

/// Reads a proof; `Ok(None)` if it is well formed but proves nothing of its header.
pub fn read(bytes: &[u8]) -> Result<Option<Proved>, consensus::wire::ParseError> {
    let mut r = Reader::new(bytes);
    let header = Header::read(&mut r)?;
    let txs = r.u32()?;
    let hashes = r.count(32)?;
    let hashes: Vec<[u8; 32]> = (0..hashes).map(|_| r.array()).collect::<Result<_, _>>()?;
    let flags = r.var_bytes()?;
    if txs == 0
        || txs > TXS_MAX
        || hashes.len() as u64 > u64::from(txs)
        || flags.len() * 8 < hashes.len()
    {
        return Ok(None);
    }
    let width = |level: u32| (u64::from(txs) + (1 << level) - 1) >> level;
    let mut height = 0;
    while width(height) > 1 {
        height += 1;
    }
    let mut walk = Walk { hashes: hashes.into_iter(), flags, bit: 0, txids: Vec::new() };
    let root = walk.node(height, 0, &width);
    let used_flags = walk.bit.div_ceil(8) == flags.len();
    let whole = walk.hashes.next().is_none() && used_flags;
    Ok((whole && root.map(MerkleHash) == Some(header.merkle_root))
        .then_some(Proved { header, txids: walk.txids }))
}

struct Walk<'a> {
    hashes: std::vec::IntoIter<[u8; 32]>,
    flags: &'a [u8],
    bit: usize,
    txids: Vec<TxId>,
}

impl Walk<'_> {
    /// The hash of a node; `None` if bits or hashes run out or two equal nodes stand beside each other (CVE-2012-2459). No
    /// deeper than the 32 levels a count of 32 bits has.
    fn node(&mut self, level: u32, at: u64, width: &impl Fn(u32) -> u64) -> Option<[u8; 32]> {
        let flag = self.flags.get(self.bit / 8)? >> (self.bit % 8) & 1 == 1;
        self.bit += 1;
        if level == 0 || !flag {
            let hash = self.hashes.next()?;
            if level == 0 && flag {
                self.txids.push(TxId(hash));
            }
            return Some(hash);
        }
        let left = self.node(level - 1, at * 2, width)?;
        let right = if at * 2 + 1 < width(level - 1) {
            let right = self.node(level - 1, at * 2 + 1, width)?;
            if right == left {
                return None;
            }
            right
        } else {
            left
        };
        Some(merkle_parent(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::merkle::merkle_root;

    fn block(txs: usize) -> (Header, Vec<TxId>) {
        let txids: Vec<TxId> = (0..txs).map(|i| TxId::of(&i.to_le_bytes())).collect();
        let root = merkle_root(txids.iter().map(TxId::as_bytes)).root;
        let header = Header { merkle_root: root, ..Header::from_bytes(&[7; 80]) };
        (header, txids)
    }

    #[test]
    fn every_set_of_every_small_block_is_proved_and_read_back() {
        for txs in 1..=9 {
            let (header, txids) = block(txs);
            for set in 0..1u32 << txs {
                let chosen: Vec<TxId> =
                    (0..txs).filter(|i| set >> i & 1 == 1).map(|i| txids[i]).collect();
                let proof = build(&header, &txids, |txid| chosen.contains(txid));
                let read = read(&proof).unwrap().expect("a good proof");
                assert_eq!((read.txids, read.header), (chosen, header));
            }
        }
    }

    #[test]
    fn no_changed_byte_proves_what_is_not_in_the_block() {
        let (header, txids) = block(7);
        let proof = build(&header, &txids, |txid| *txid == txids[4]);
        for at in 0..proof.len() {
            for bit in 0..8 {
                let mut bad = proof.clone();
                bad[at] ^= 1 << bit;
                if let Ok(Some(proved)) = read(&bad) {
                    // A header that differs elsewhere is another block's. A flag may show the neighbour, whose hash is in
                    // the proof and which is in the block as well; the count alone tells how deep leaves are.
                    let other_header = proved.header.hash() != header.hash();
                    let all_there = proved.txids.iter().all(|txid| txids.contains(txid));
                    let count = (80..84).contains(&at);
                    assert!(other_header || all_there || count, "byte {at} bit {bit}");
                }
            }
            assert!(read(&proof[..at]).is_err() || matches!(read(&proof[..at]), Ok(None)));
        }
    }

    #[test]
    fn the_proof_is_the_references_byte_for_byte() {
        // `gettxoutproof` of SV Node 1.0.13 for the sixth of seven transactions.
        let expected = "000000201d4f5928125c4aaedc698d66c53b640ab5e5f8d3058ec82ebbea0592573f3e74d12398cec38a808c218d9908d1bd\
            f4e255fd988e70c3e6befcbb2250a65a7913d7a5026bffff7f20000000000700000004cfacfd2c77ad10b6ec90b90b51dedbd3752c1a249b\
            fa4b29572ffcb3f5d9934bba7e597d931c732d886d4300f2c558894d04fa5cf0ee2054f2a242c807c74ce8e4ac904b90cfc3337a12f9658b\
            a236a237a8f50ee733023faf1d1d5db82ea3139d82bc0868e6f0cf7646b7ead0d59e5267d444d2a593d50106cd6789f714286c012d";
        let expected = hex::decode(expected.replace([' ', '\n'], "")).unwrap();
        let txids: Vec<TxId> = [
            "3e8d0f1863b258369f1b1fe8259de6a88dd5b5f1da13c22ecfe112f88dc7685f",
            "5b4ad8de732cca356a6063a7ea26c64addb6c3c896ea712f25d93c7b25985c50",
            "e6e36d59d70bec9bcffe427cfa5909e9015b4dd94c4ecbc6e4ad16e6e31dc337",
            "b1d134aca7ba748d209bffb4dba5767582b94e8ab77392cc084bfa0a4dde9950",
            "e84cc707c842a2f25420eef05cfa044d8958c5f200436d882d731c937d597eba",
            "13a32eb85d1d1daf3f0233e70ef5a837a236a28b65f9127a33c3cf904b90ace4",
            "a2547581ad53c84c77dd3bd5a30892090c4635b1b378ff242229560f13683d0d",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        let header = Header::from_bytes(expected[..80].try_into().unwrap());
        let proof = build(&header, &txids, |txid| *txid == txids[5]);
        assert_eq!(hex::encode(&proof), hex::encode(&expected));
    }
}

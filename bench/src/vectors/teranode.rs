//! Teranode's files: blocks, subtrees, the transactions of subtrees, seeds of UTXO sets and headers, outputs.
//!
//! A subtree comes in two forms: whole (root, sums, nodes, conflicting) and as bare transaction ids; a file's name is the
//! root. A block's subtrees are looked for beside it, and where they are its merkle root is worked out from them.

use super::File;
use super::blocks::block;
use super::tally::{Differs, Held, Tally, same_as, that, wanted};
use super::txs::{is_hash, round_trip};
use consensus::block::BlockStep;
use consensus::hash::{BlockHash, MerkleHash, TxId};
use consensus::header::Header;
use consensus::merkle::{SubtreeRoots, merkle_root};
use consensus::params::{ChainParams, Network};
use consensus::pow::hash_meets_bits;
use consensus::teranode::{
    COINBASE_PLACEHOLDER, FileKind, SubtreeDataCursor, SubtreeView, TeranodeBlock,
    TeranodeBlockView,
};
use consensus::tx::{TxLayout, TxView};
use consensus::wire::Reader;

/// Bytes behind the magic, or the file as it is where it has none.
fn body(bytes: &[u8], kind: FileKind) -> &[u8] {
    kind.expect(bytes).unwrap_or(bytes)
}

fn stem<'a>(file: &'a File<'_>) -> &'a str {
    file.name().split('.').next().unwrap_or_default()
}

/// The file's name, when it is a hash, must be this one.
fn named(file: &File<'_>, hash: &str) -> Held {
    if is_hash(stem(file)) { same_as("name", &stem(file), &hash) } else { Ok(()) }
}

/// A block in Teranode's form.
pub fn teranode_block(file: &File<'_>, tally: &mut Tally) {
    tally.row("file", whole_block(file));
}

fn whole_block(file: &File<'_>) -> Held {
    let bytes = body(file.bytes, FileKind::Block);
    let mut layout = TxLayout::default();
    let view = TeranodeBlockView::parse(bytes, &mut layout).map_err(wanted("a Teranode block"))?;
    let header = view.header();
    named(file, &header.hash().to_string())?;
    round_trip(&view.coinbase())?;
    let subtree_roots: Vec<MerkleHash> = view.subtree_roots().collect();
    let owned = TeranodeBlock {
        header: *header,
        tx_count: view.tx_count(),
        size_bytes: view.size_bytes(),
        subtree_roots: subtree_roots.clone(),
        coinbase: view.coinbase().bytes().to_vec(),
        height: view.height(),
    };
    let mut again = Vec::new();
    owned.write(&mut again);
    that("written back, the same bytes", again == bytes)?;
    let subtrees: Vec<Vec<TxId>> = subtree_roots
        .iter()
        .filter_map(|root| ids(&file.beside(&format!("{root}.subtree")).ok()?))
        .collect();
    if subtrees.is_empty() || subtrees.len() < subtree_roots.len() {
        return Ok(());
    }
    let coinbase = view.coinbase().txid();
    let mut roots = SubtreeRoots::for_first(subtrees[0].len() as u64);
    let mut transactions = 0;
    for (at, (root, leaves)) in subtree_roots.iter().zip(&subtrees).enumerate() {
        same_as("subtree root", root, &root_of(leaves))?;
        let mut leaves = leaves.clone();
        if at == 0 {
            same_as("the coinbase's place", &COINBASE_PLACEHOLDER, &leaves[0])?;
            leaves[0] = coinbase;
        }
        transactions += leaves.len() as u64;
        roots
            .push(&root_of(&leaves).0, leaves.len() as u64)
            .map_err(wanted("a subtree that fits"))?;
    }
    same_as("transactions", &view.tx_count(), &transactions)?;
    same_as("merkle root", &header.merkle_root, &roots.root().root)
}

fn root_of(ids: &[TxId]) -> MerkleHash {
    merkle_root(ids.iter().map(|id| &id.0)).root
}

/// Transaction ids of a subtree in either form.
fn ids(bytes: &[u8]) -> Option<Vec<TxId>> {
    let bytes = body(bytes, FileKind::Subtree);
    if let Ok(view) = SubtreeView::parse(bytes) {
        return Some(view.nodes().map(|node| node.txid).collect());
    }
    let (rows, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && !rows.is_empty()).then(|| rows.iter().map(|row| TxId(*row)).collect())
}

/// A subtree.
pub fn subtree(file: &File<'_>, tally: &mut Tally) {
    tally.row("file", whole_subtree(file));
}

fn whole_subtree(file: &File<'_>) -> Held {
    let bytes = body(file.bytes, FileKind::Subtree);
    if let Ok(view) = SubtreeView::parse(bytes) {
        same_as("root", &view.root(), &view.computed_root().root)?;
        named(file, &view.root().to_string())?;
        // Sums of the file that is not named after its root are made up.
        if is_hash(stem(file)) {
            let fees: u128 = view.nodes().map(|node| u128::from(node.fee_sat)).sum();
            let sizes: u128 = view.nodes().map(|node| u128::from(node.size_bytes)).sum();
            same_as("sum of fees", &u128::from(view.fees_sat()), &fees)?;
            same_as("sum of sizes", &u128::from(view.size_bytes()), &sizes)?;
        }
        let mut again = Vec::new();
        view.to_owned_subtree().write(&mut again);
        return that("written back, the same bytes", again == bytes);
    }
    let leaves = ids(bytes).ok_or("neither form").map_err(wanted("a subtree"))?;
    named(file, &root_of(&leaves).to_string())
}

/// The transactions of a subtree, one after the other; the subtree lies beside.
pub fn subtree_data(file: &File<'_>, tally: &mut Tally) {
    let held = walk_data(file).and_then(|got| {
        tally.note("transactions", got.len() as u64);
        let beside = file
            .beside(&format!("{}.subtree", stem(file)))
            .map_err(wanted("the subtree beside"))?;
        let mut leaves = ids(&beside).ok_or("neither form").map_err(wanted("a subtree"))?;
        // The coinbase has a place in the first subtree and no transaction here, or its own one.
        if leaves.first() == Some(&COINBASE_PLACEHOLDER) && got.len() < leaves.len() {
            leaves.remove(0);
        } else if let (Some(leaf), Some(id)) = (leaves.first_mut(), got.first()) {
            *leaf = if *leaf == COINBASE_PLACEHOLDER { *id } else { *leaf };
        }
        same_as("transaction ids", &leaves, &got)
    });
    tally.row("file", held);
}

fn walk_data(file: &File<'_>) -> Result<Vec<TxId>, Differs> {
    let bytes = body(file.bytes, FileKind::SubtreeData);
    let mut cursor = SubtreeDataCursor::new(u32::MAX);
    let mut layout = TxLayout::default();
    let mut got = Vec::new();
    loop {
        match cursor.advance(bytes, &mut layout, 7).map_err(wanted("a transaction"))? {
            BlockStep::Tx(range) => {
                let view = TxView::new(&bytes[range], &layout);
                round_trip(&view)?;
                got.push(view.txid());
            }
            BlockStep::End => return Ok(got),
            BlockStep::More => {}
            BlockStep::LayoutFull => {
                return Err(Differs { want: "room".to_owned(), got: "a full layout".to_owned() });
            }
        }
    }
}

/// A block in Bitcoin's format, perhaps behind a magic. The one file of this kind repeats the count of one before its only
/// transaction; then the merkle root says whether the rest is right.
pub fn wire_block(file: &File<'_>, tally: &mut Tally) {
    let bytes = body(file.bytes, FileKind::MsgBlock);
    let held = wire_block_of(bytes, file).or_else(|differs| match bytes.split_at_checked(80) {
        Some((header, [1, 1, rest @ ..])) => wire_block_of(&[header, &[1], rest].concat(), file),
        _ => Err(differs),
    });
    tally.row("file", held);
}

fn wire_block_of(bytes: &[u8], file: &File<'_>) -> Held {
    block(bytes, Network::Test).and_then(|(block, _)| named(file, &block.hash().to_string()))
}

/// A seed's headers: one row each.
pub fn utxo_headers(file: &File<'_>, tally: &mut Tally) {
    let held = (|| {
        let bytes = FileKind::UtxoHeaders.expect(file.bytes).map_err(wanted("the magic"))?;
        let mut reader = Reader::new(bytes);
        let tip = BlockHash(reader.array().map_err(wanted("the tip"))?);
        let height = u32_of(&mut reader)?;
        named(file, &tip.to_string())?;
        let limit = ChainParams::of(Network::Regtest).pow_limit();
        let mut before: Option<BlockHash> = None;
        for at in 0..=height {
            if before == Some(tip) || reader.remaining() < 124 {
                break;
            }
            let row = (|| {
                let hash = BlockHash(reader.array().map_err(wanted("a hash"))?);
                let says_height = u32_of(&mut reader)?;
                let _transactions: [u8; 8] = reader.array().map_err(wanted("a count"))?;
                let header = Header::read(&mut reader).map_err(wanted("a header"))?;
                same_as("hash", &hash, &header.hash())?;
                that("a hash that meets its bits", hash_meets_bits(&hash, header.n_bits, limit))?;
                if let Some(before) = before.replace(hash) {
                    same_as("previous hash", &before, &header.prev)?;
                }
                same_as("height", &(at + 1), &says_height)
            })();
            tally.row(at, row);
        }
        same_as("tip", &Some(tip), &before)?;
        trailer(&mut reader, tally.rows(), None)
    })();
    if let Err(differs) = held {
        tally.fail("file", &differs.want, &differs.got);
    }
}

/// A seed's unspent outputs: one row a transaction.
pub fn utxo_set(file: &File<'_>, tally: &mut Tally) {
    let held = (|| {
        let bytes = FileKind::UtxoSet.expect(file.bytes).map_err(wanted("the magic"))?;
        let mut reader = Reader::new(bytes);
        let tip = BlockHash(reader.array().map_err(wanted("the tip"))?);
        named(file, &tip.to_string())?;
        let height = u32_of(&mut reader)?;
        let _before: [u8; 32] = reader.array().map_err(wanted("the block before"))?;
        let mut outputs = 0;
        while reader.remaining() > 48 {
            let wrapped = wrapper(&mut reader);
            let row = wrapped.and_then(|wrapped| {
                outputs += wrapped.outputs;
                that("a height up to the tip", wrapped.height <= height)
            });
            let broken = row.is_err();
            tally.row(tally.rows(), row);
            if broken {
                break;
            }
        }
        tally.note("outputs", outputs);
        trailer(&mut reader, tally.rows(), Some(outputs))
    })();
    if let Err(differs) = held {
        tally.fail("file", &differs.want, &differs.got);
    }
}

/// The outputs of one large transaction.
pub fn outputs(file: &File<'_>, tally: &mut Tally) {
    let held = (|| {
        let mut reader = Reader::new(body(file.bytes, FileKind::Outputs));
        let wrapped = wrapper(&mut reader)?;
        tally.note("outputs", wrapped.outputs);
        same_as("bytes left", &0, &reader.remaining())?;
        named(file, &wrapped.txid.to_string())
    })();
    tally.row("file", held);
}

struct Wrapped {
    txid: TxId,
    height: u32,
    outputs: u64,
}

/// `txid | height * 2 + coinbase | outputs | (index, value, script) each`.
fn wrapper(reader: &mut Reader<'_>) -> Result<Wrapped, Differs> {
    let txid = TxId(reader.array().map_err(wanted("a txid"))?);
    let height = u32_of(reader)? >> 1;
    let outputs = u32_of(reader)?;
    let mut last = None;
    for _ in 0..outputs {
        let index = u32_of(reader)?;
        that("outputs in order", last.replace(index).is_none_or(|last| last < index))?;
        let _value: [u8; 8] = reader.array().map_err(wanted("a value"))?;
        let len = u32_of(reader)?;
        reader.take(len as usize).map_err(wanted("a script"))?;
    }
    Ok(Wrapped { txid, height, outputs: outputs.into() })
}

/// Older seeds end with thirty-two zeros and two counts.
fn trailer(reader: &mut Reader<'_>, rows: u64, outputs: Option<u64>) -> Held {
    if reader.remaining() == 48 {
        same_as("zeros", &[0; 32], &reader.array().map_err(wanted("zeros"))?)?;
    }
    if reader.remaining() == 16 {
        let first = u64::from_le_bytes(reader.array().map_err(wanted("a count"))?);
        let second = u64::from_le_bytes(reader.array().map_err(wanted("a count"))?);
        same_as("count at the end", &first, &rows)?;
        if let Some(outputs) = outputs {
            same_as("outputs at the end", &second, &outputs)?;
        }
    }
    same_as("bytes left", &0, &reader.remaining())
}

fn u32_of(reader: &mut Reader<'_>) -> Result<u32, Differs> {
    Ok(u32::from_le_bytes(reader.array().map_err(wanted("a number"))?))
}

//! Teranode's containers: what is written is read, any bytes are an object or an error, roots agree with the flat list.

use super::*;
use crate::block::BlockStep;
use crate::hash::{MerkleHash, TxId};
use crate::header::Header;
use crate::merkle::merkle_root;
use crate::tx::{Tx, TxLayout, TxView, any_tx};
use proptest::collection::vec;
use proptest::prelude::*;

fn node() -> impl Strategy<Value = SubtreeNode> {
    (any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(|(txid, fee_sat, size_bytes)| {
        SubtreeNode { txid: TxId(txid), fee_sat, size_bytes }
    })
}

proptest! {
    #[test]
    fn a_subtree_written_is_a_subtree_read(nodes in vec(node(), 0..20), conflicting in vec(any::<[u8; 32]>(), 0..4)) {
        let subtree = Subtree {
            conflicting: conflicting.into_iter().map(TxId).collect(),
            ..Subtree::of(nodes)
        };
        let mut bytes = Vec::new();
        subtree.write(&mut bytes);
        let view = SubtreeView::parse(&bytes).unwrap();
        prop_assert_eq!(view.computed_root().root, subtree.root);
        prop_assert_eq!(view.to_owned_subtree(), subtree);
        for cut in 0..bytes.len() {
            prop_assert!(SubtreeView::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_block_written_is_a_block_read(
        tx_count: u64, size_bytes: u64, height: u32, coinbase in any_tx(),
        roots in vec(any::<[u8; 32]>().prop_filter("zero", |r| *r != [0; 32]), 0..5),
    ) {
        let block = TeranodeBlock {
            header: Header::default(),
            tx_count,
            size_bytes,
            subtree_roots: roots.into_iter().map(MerkleHash).collect(),
            coinbase: coinbase.to_bytes(),
            height,
        };
        let mut bytes = Vec::new();
        block.write(&mut bytes);
        let mut layout = TxLayout::new();
        let view = TeranodeBlockView::parse(&bytes, &mut layout).unwrap();
        prop_assert_eq!((view.tx_count(), view.size_bytes(), view.height()), (tx_count, size_bytes, height));
        prop_assert_eq!(view.subtree_roots().collect::<Vec<_>>(), block.subtree_roots);
        prop_assert_eq!(view.coinbase().bytes(), &block.coinbase);
    }

    #[test]
    fn subtree_data_written_is_walked(txs in vec(any_tx(), 0..5), extended: bool, items in 1usize..5) {
        let mut bytes = Vec::new();
        for tx in &txs {
            bytes.extend(if extended { tx.to_extended_bytes().unwrap() } else { tx.to_bytes() });
        }
        let mut cursor = SubtreeDataCursor::new(u32::MAX);
        let mut layout = TxLayout::new();
        let mut ids = Vec::new();
        loop {
            match cursor.advance(&bytes, &mut layout, items).unwrap() {
                BlockStep::Tx(range) => ids.push(TxView::new(&bytes[range], &layout).txid()),
                BlockStep::End => break,
                _ => {}
            }
        }
        prop_assert_eq!(ids, txs.iter().map(Tx::txid).collect::<Vec<_>>());
    }

    #[test]
    fn subtree_meta_written_is_subtree_meta_read(txs in vec(any_tx(), 0..5)) {
        let leaves = txs.iter().map(|tx| {
            let bytes = tx.to_bytes();
            let mut layout = TxLayout::new();
            TxInpoints::of(crate::tx::parse(&bytes, &mut layout).unwrap())
        });
        let meta = SubtreeMeta { root: MerkleHash([3; 32]), leaves: leaves.collect() };
        let mut bytes = Vec::new();
        meta.write(&mut bytes);
        prop_assert_eq!(SubtreeMeta::parse(&bytes).unwrap(), meta);
    }

    #[test]
    fn any_bytes_are_an_object_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        let mut layout = TxLayout::new();
        let _ = SubtreeView::parse(&bytes);
        let _ = SubtreeMeta::parse(&bytes);
        let _ = TeranodeBlockView::parse(&bytes, &mut layout);
        let _ = FileKind::split(&bytes);
        let mut cursor = SubtreeDataCursor::new(100);
        let _ = cursor.advance(&bytes, &mut layout, 10);
    }

    #[test]
    fn a_block_of_subtrees_has_the_root_of_its_transactions(n in 1u64..100, level in 1u32..5) {
        let coinbase = TxId([1; 32]);
        let mut ids: Vec<TxId> = (0..n).map(|i| TxId::of(&i.to_le_bytes())).collect();
        ids[0] = COINBASE_PLACEHOLDER;
        let subtrees: Vec<Subtree> = ids
            .chunks(1 << level)
            .map(|ids| Subtree::of(ids.iter().map(|&txid| SubtreeNode { txid, fee_sat: 1, size_bytes: 2 }).collect()))
            .collect();
        let block = TeranodeBlock {
            subtree_roots: subtrees.iter().map(|s| s.root).collect(),
            coinbase: Tx::default().to_bytes(),
            ..TeranodeBlock::default()
        };
        let mut bytes = Vec::new();
        block.write(&mut bytes);
        let mut layout = TxLayout::new();
        let view = TeranodeBlockView::parse(&bytes, &mut layout).unwrap();
        let mut first = Vec::new();
        subtrees[0].write(&mut first);
        let first = SubtreeView::parse(&first).unwrap();
        prop_assert!(first.has_placeholder());
        let last = subtrees.last().unwrap().nodes.len() as u64;
        let got = view.merkle_root(&coinbase, Some(&first), last).unwrap();
        ids[0] = coinbase;
        let flat: Vec<[u8; 32]> = ids.iter().map(|id| id.0).collect();
        prop_assert_eq!(got, merkle_root(&flat));
    }
}

#[test]
fn a_claimed_number_of_leaves_reserves_nothing() {
    let mut bytes = vec![0; 48];
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    let error = SubtreeView::parse(&bytes).unwrap_err();
    assert_eq!(error.offset, 48);
}

#[test]
fn files_say_what_they_are() {
    assert_eq!(FileKind::split(b"B-1.0   rest"), Some((FileKind::Block, &b"rest"[..])));
    assert_eq!(FileKind::split(b"U-S-1.0\0"), Some((FileKind::UtxoSet, &b""[..])));
    assert_eq!(FileKind::split(b"B-2.0   "), None);
    assert!(FileKind::Subtree.expect(b"B-1.0   ").is_err());
    for kind in FileKind::ALL {
        assert_eq!(FileKind::split(kind.magic()).unwrap().0, *kind);
    }
}

#[test]
fn an_output_is_named_as_teranode_names_it() {
    let txid = "2fb09ea4d1d282f55b4f4b5b1eec92fa314e1ba5a5a009e897f63d155b4dba82".parse().unwrap();
    let script = hex::decode("76a914d687c76d6ee133c9cc42bd96e3947d8a84bdf60288ac").unwrap();
    let name = utxo_hash(&txid, 0, &script, 1_149_996_160);
    // Teranode prints it reversed, as it prints every hash.
    assert_eq!(
        MerkleHash(name).to_string(),
        "8ef53bb4c9c4b849c30ec75243bad8a7eafd83f407407a154a6d9ec80d83dd00"
    );
}

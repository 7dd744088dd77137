//! Transactions: writers are inverses of parsers, pieces give what the whole gives, and no input makes anything panic.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn coin() -> impl Strategy<Value = Coin> {
    (any::<u64>(), vec(any::<u8>(), 0..300))
        .prop_map(|(value_sat, locking_script)| Coin { value_sat, locking_script })
}

fn input() -> impl Strategy<Value = TxIn> {
    (any::<[u8; 32]>(), any::<u32>(), vec(any::<u8>(), 0..300), any::<u32>(), coin()).prop_map(
        |(txid, vout, unlocking_script, sequence, coin)| TxIn {
            prev: OutPoint { txid: TxId(txid), vout },
            unlocking_script,
            sequence,
            coin: Some(coin),
        },
    )
}

fn output() -> impl Strategy<Value = TxOut> {
    (any::<i64>(), vec(any::<u8>(), 0..300))
        .prop_map(|(value_sat, locking_script)| TxOut { value_sat, locking_script })
}

pub(crate) fn any_tx() -> impl Strategy<Value = Tx> {
    (any::<i32>(), vec(input(), 0..8), vec(output(), 0..8), any::<u32>()).prop_map(
        |(version, inputs, outputs, lock_time)| Tx { version, inputs, outputs, lock_time },
    )
}

fn without_coins(mut tx: Tx) -> Tx {
    for input in &mut tx.inputs {
        input.coin = None;
    }
    tx
}

proptest! {
    #[test]
    fn what_is_written_is_read(tx in any_tx()) {
        let raw = tx.to_bytes();
        let raw_only = without_coins(tx.clone());
        // An extended transaction without inputs and outputs and with lock time 0xef000000 is the one ambiguity.
        prop_assert_eq!(&Tx::parse(&raw).unwrap(), &raw_only);
        let extended = tx.to_extended_bytes().unwrap();
        prop_assert_eq!(&Tx::parse(&extended).unwrap(), &tx);

        let mut layout = TxLayout::new();
        let view = parse(&extended, &mut layout).unwrap();
        prop_assert!(view.is_extended());
        prop_assert_eq!(view.raw_size(), raw.len() as u64);
        prop_assert_eq!(view.txid(), TxId::of(&raw));
        let mut back = Vec::new();
        view.write_raw(&mut back);
        prop_assert_eq!(&back, &raw);
        let mut again = Vec::new();
        view.write_extended(&mut again, |i| view.input(i).extended).unwrap();
        prop_assert_eq!(again, extended);
    }

    #[test]
    fn pieces_give_what_the_whole_gives(tx in any_tx(), items in 1usize..4, hash_bytes in 1u64..200) {
        let bytes = tx.to_extended_bytes().unwrap();
        let mut layout = TxLayout::new();
        let mut parser = TxParser::new(Limits::CONSENSUS);
        let mut turns = 0;
        while parser.advance(&bytes, &mut layout, items).unwrap() == Progress::More {
            turns += 1;
        }
        prop_assert_eq!(turns, (tx.inputs.len() + tx.outputs.len()).saturating_sub(1) / items);
        let view = TxView::new(&bytes, &layout);
        let mut hasher = TxIdHasher::new(view);
        let id = loop {
            if let Some(id) = hasher.advance(hash_bytes) {
                break id;
            }
        };
        prop_assert_eq!(id, tx.txid());
    }

    #[test]
    fn bytes_that_arrive_one_by_one_parse_at_the_last(tx in any_tx(), extended: bool) {
        let bytes = if extended { tx.to_extended_bytes().unwrap() } else { tx.to_bytes() };
        let mut layout = TxLayout::new();
        let mut parser = TxParser::new(if extended { Limits::CONSENSUS } else { Limits::RAW });
        for end in 0..bytes.len() {
            let error = parser.advance(&bytes[..end], &mut layout, usize::MAX).unwrap_err();
            prop_assert!(error.is_truncated());
            prop_assert!(error.offset <= end as u64);
        }
        prop_assert_eq!(parser.advance(&bytes, &mut layout, usize::MAX), Ok(Progress::Done));
        let want = if extended { tx } else { without_coins(tx) };
        prop_assert_eq!(TxView::new(&bytes, &layout).to_owned_tx(), want);
    }

    #[test]
    fn any_bytes_parse_or_fail_and_what_parses_writes_back(bytes in vec(any::<u8>(), 0..200)) {
        let mut layout = TxLayout::new();
        if let Ok(view) = parse(&bytes, &mut layout) {
            prop_assert_eq!(view.to_owned_tx().to_bytes().len() as u64, view.raw_size());
        }
    }

    #[test]
    fn a_damaged_transaction_never_panics(tx in any_tx(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = tx.to_extended_bytes().unwrap();
        let i = at.index(bytes.len());
        bytes[i] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let mut layout = TxLayout::new();
        match parse(&bytes, &mut layout) {
            Ok(view) => {
                let _ = view.txid();
            }
            Err(error) => prop_assert!(error.offset <= bytes.len() as u64),
        }
    }
}

#[test]
fn a_claimed_count_reserves_nothing() {
    let mut bytes = vec![1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff];
    bytes.extend_from_slice(&[0; 50]);
    let mut layout = TxLayout::new();
    let error = parse(&bytes, &mut layout).unwrap_err();
    assert_eq!(error.offset, 50);
    assert!(layout.inputs.capacity() < 16);
}

#[test]
fn a_fixed_layout_says_full_instead_of_growing() {
    let tx = Tx {
        inputs: vec![TxIn::default(); 3],
        outputs: vec![TxOut::default(); 2],
        ..Tx::default()
    };
    let bytes = tx.to_bytes();
    for (inputs, outputs, want) in
        [(3, 2, Progress::Done), (2, 2, Progress::LayoutFull), (3, 1, Progress::LayoutFull)]
    {
        let mut layout = TxLayout::fixed(inputs, outputs);
        let mut parser = TxParser::new(Limits::CONSENSUS);
        assert_eq!(parser.advance(&bytes, &mut layout, usize::MAX), Ok(want));
    }
}

#[test]
fn the_limit_in_bytes_is_a_limit_and_not_a_truncation() {
    let bytes = Tx { inputs: vec![TxIn::default()], ..Tx::default() }.to_bytes();
    let limits = |max_bytes| Limits { max_bytes, format: Format::Either };
    let mut layout = TxLayout::new();
    assert!(parse_prefix(&bytes, &mut layout, limits(bytes.len() as u32)).is_ok());
    let error =
        parse_prefix(&bytes, &mut layout, limits(bytes.len() as u32 - 1)).map(|_| ()).unwrap_err();
    let limit = bytes.len() as u64 - 1;
    assert_eq!(error.kind, ParseErrorKind::TooLarge { limit });
}

#[test]
fn ten_bytes_with_the_marker_are_an_empty_raw_transaction() {
    let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0xef];
    let tx = Tx::parse(&bytes).unwrap();
    assert_eq!((tx.inputs.len(), tx.outputs.len(), tx.lock_time), (0, 0, 0xef00_0000));
}

#[test]
fn the_wrong_format_is_named() {
    let tx = Tx {
        inputs: vec![TxIn { coin: Some(Coin::default()), ..TxIn::default() }],
        ..Tx::default()
    };
    let mut layout = TxLayout::new();
    let extended_only = Limits { format: Format::Extended, ..Limits::CONSENSUS };
    let error = parse_prefix(&tx.to_bytes(), &mut layout, extended_only).map(|_| ()).unwrap_err();
    assert_eq!((error.offset, error.kind), (4, ParseErrorKind::WrongFormat));
    let extended = tx.to_extended_bytes().unwrap();
    assert!(parse_prefix(&extended, &mut layout, extended_only).is_ok());
}

//! Every message comes back as it was sent, and no bytes at all make a decoder panic.

use super::admin::{Admin, AdminReply, ShardEpochs, Tip};
use super::batch::Item;
use super::reply::CoinReply;
use super::request::{Decision, List, SpentInput};
use super::*;
use consensus::hash::{BlockHash, TxId};
use consensus::tx::OutPoint;
use proptest::collection::vec;
use proptest::prelude::*;

fn txid() -> impl Strategy<Value = TxId> {
    any::<[u8; 32]>().prop_map(TxId)
}

fn outpoint() -> impl Strategy<Value = OutPoint> {
    (txid(), any::<u32>()).prop_map(|(txid, vout)| OutPoint { txid, vout })
}

fn ticket() -> impl Strategy<Value = Ticket> {
    (any::<u32>(), any::<u32>()).prop_map(|(slot, attempt)| Ticket { slot, attempt })
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (any::<u32>(), any::<u64>()).prop_map(|(incarnation, number)| Epoch { incarnation, number })
}

fn context() -> impl Strategy<Value = Context> {
    any::<(u32, u32, u32, u32)>().prop_map(|(block, height, median_time_past, rule_set)| Context {
        block,
        height,
        median_time_past,
        rule_set,
    })
}

fn expect() -> impl Strategy<Value = Expect> {
    any::<(u64, u64, u32, u8, bool, bool, bool)>().prop_map(|e| Expect {
        value_sat: e.0,
        script_tag: e.1,
        coin_height: e.2,
        coin_era: e.3,
        height_matters: e.4,
        coinbase: e.5,
        proven: e.6,
    })
}

fn input_ref() -> impl Strategy<Value = InputRef> {
    (any::<u32>(), outpoint(), expect()).prop_map(|(vin, outpoint, expect)| InputRef {
        vin,
        outpoint,
        expect,
    })
}

fn spent_input() -> impl Strategy<Value = SpentInput> {
    (any::<u32>(), outpoint()).prop_map(|(vin, outpoint)| SpentInput { vin, outpoint })
}

fn parent() -> impl Strategy<Value = ParentSeq> {
    any::<(u16, u64)>().prop_map(|(shard, seq)| ParentSeq { shard, seq })
}

fn verdict() -> impl Strategy<Value = InputVerdict> {
    prop_oneof![
        any::<u64>().prop_map(|parent_seq| InputVerdict::Reserved { parent_seq }),
        Just(InputVerdict::Missing),
        txid().prop_map(|by| InputVerdict::Spent { by }),
        Just(InputVerdict::Frozen),
        any::<u32>().prop_map(|until_height| InputVerdict::Immature { until_height }),
        txid().prop_map(|by| InputVerdict::Busy { by }),
        Just(InputVerdict::ParentInFlight),
        Just(InputVerdict::Overloaded),
        Just(InputVerdict::Locked),
    ]
}

/// Encodes one item and checks that every shorter buffer refuses it.
fn bytes_of<'a>(item: &impl Item<'a>) -> Vec<u8> {
    let mut buf = vec![0; 4096];
    let len = item.encode(&mut buf).expect("fits");
    assert!(item.encode(&mut vec![0; len - 1]).is_none(), "an item that does not fit is refused");
    buf.truncate(len);
    buf
}

macro_rules! request_comes_back {
    ($item:expr) => {{
        let bytes = bytes_of(&$item);
        for cut in 0..bytes.len() {
            prop_assert!(Request::decode(&bytes[..cut]).is_none(), "cut at {}", cut);
        }
        let (item, used) = Request::decode(&bytes).expect("decodes");
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(&bytes_of(&item), &bytes);
        prop_assert_eq!(format!("{:?}", Shown(&item)), format!("{:?}", Shown(&$item)));
    }};
}

/// Lists are shown by their records, wherever they lie.
struct Shown<'a, 'b>(&'a Request<'b>);

impl std::fmt::Debug for Shown<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Request::Reserve { ticket, txid, inputs } => {
                write!(f, "{ticket:?} {txid} {:?}", inputs.iter().collect::<Vec<_>>())
            }
            Request::Commit { ticket, txid, inputs, decision } => {
                let parents: Vec<_> = decision.parents.iter().collect();
                let inputs: Vec<_> = inputs.iter().collect();
                write!(f, "{ticket:?} {txid} {inputs:?} {parents:?} {:?}", decision.tx)
            }
            Request::Settle { ticket, txid, decision } => {
                let parents: Vec<_> = decision.parents.iter().collect();
                write!(f, "{ticket:?} {txid} {} {parents:?} {:?}", decision.fee_sat, decision.tx)
            }
            Request::Release { ticket, txid, inputs } => {
                write!(f, "{ticket:?} {txid} {:?}", inputs.iter().collect::<Vec<_>>())
            }
            Request::Spend { ticket, txid, decided, publish_seq, inputs } => {
                write!(
                    f,
                    "{ticket:?} {txid} {decided:?} {publish_seq} {:?}",
                    inputs.iter().collect::<Vec<_>>()
                )
            }
            other => write!(f, "{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn requests_come_back_as_sent(
        t in ticket(), id in txid(), o in outpoint(), e in epoch(), vin in any::<u32>(), fee_sat in any::<u64>(),
        tx in vec(any::<u8>(), 0..200),
        inputs in vec(input_ref(), 0..9), spent in vec(spent_input(), 0..9), parents in vec(parent(), 0..5),
    ) {
        let decision = Decision { fee_sat, parents: List::Own(&parents), tx: &tx };
        request_comes_back!(Request::Announce { ticket: t, txid: id, tx: &tx });
        request_comes_back!(Request::Seen { ticket: t, txid: id });
        request_comes_back!(Request::Resolve { ticket: t, vin, outpoint: o });
        request_comes_back!(Request::Reserve { ticket: t, txid: id, inputs: List::Own(&inputs) });
        request_comes_back!(Request::Commit {
            ticket: t, txid: id, inputs: List::Own(&inputs), decision
        });
        request_comes_back!(Request::Release { ticket: t, txid: id, inputs: List::Own(&spent) });
        request_comes_back!(Request::Watch { ticket: t, outpoint: o });
        request_comes_back!(Request::Unwatch { ticket: t, outpoint: o });
        request_comes_back!(Request::Withdraw {
            ticket: t, txid: id, reason: WithdrawReason::Rejected
        });
        request_comes_back!(Request::Withdraw {
            ticket: t, txid: id, reason: WithdrawReason::Orphaned
        });
        request_comes_back!(Request::Settle { ticket: t, txid: id, decision });
        request_comes_back!(Request::Spend {
            ticket: t, txid: id, decided: e, publish_seq: fee_sat, inputs: List::Own(&spent)
        });
        request_comes_back!(Request::SpendsLogged { txid: id, epoch: e });
    }

    #[test]
    fn replies_come_back_as_sent(
        t in ticket(), vin in any::<u32>(), v in verdict(), e in epoch(), seq in any::<u64>(),
        coin in any::<(u64, u32, bool, bool)>(), script in vec(any::<u8>(), 0..200), height in any::<u32>(),
    ) {
        let coin = CoinReply {
            value_sat: coin.0,
            height: coin.1,
            coinbase: coin.2,
            pending: coin.3,
            locking_script: &script,
        };
        let all = [
            Reply::Seen { ticket: t, state: SeenState::Unknown },
            Reply::Seen { ticket: t, state: SeenState::Unmined { publish_seq: seq, rule_set: height } },
            Reply::Seen { ticket: t, state: SeenState::Mined { height, unspent: true } },
            Reply::Coin { ticket: t, vin, coin },
            Reply::Input { ticket: t, vin, verdict: v },
            Reply::Differs { ticket: t, vin, coin },
            Reply::Decided { ticket: t, epoch: e, publish_seq: seq, from_pool: true },
            Reply::Refused { ticket: t },
            Reply::SpendLogged { ticket: t, epoch: e },
            Reply::Wake { ticket: t, vin, reason: WakeReason::Free },
            Reply::Wake { ticket: t, vin, reason: WakeReason::ParentRejected },
            Reply::Wake { ticket: t, vin, reason: WakeReason::ParentOrphaned },
        ];
        for reply in &all {
            let bytes = bytes_of(reply);
            for cut in 0..bytes.len() {
                prop_assert!(Reply::decode(&bytes[..cut]).is_none());
            }
            prop_assert_eq!(Reply::decode(&bytes), Some((*reply, bytes.len())));
        }
        let replies = [
            AdminReply::Done { done: vin, refused: height },
            AdminReply::Coin { token: seq, coin: None },
            AdminReply::Coin { token: seq, coin: Some(coin) },
            AdminReply::CoinTooLong {
                token: seq, value_sat: seq ^ 1, script_bytes: seq ^ 2, script_bytes_max: seq ^ 3,
            },
        ];
        for reply in &replies {
            let bytes = bytes_of(reply);
            if let AdminReply::Coin { coin: Some(coin), .. } = reply {
                prop_assert_eq!(bytes.len(), AdminReply::COIN_HEAD_BYTES + coin.locking_script.len());
            }
            prop_assert_eq!(AdminReply::decode(&bytes), Some((*reply, bytes.len())));
        }
    }

    #[test]
    fn verdicts_control_and_long_messages_come_back_as_sent(
        token in any::<u64>(), source in any::<u32>(), n in 0..TxVerdict::ALL.len(), id in txid(), t in ticket(),
        other in txid(), c in context(), detail in any::<u8>(), inputs_only in any::<bool>(),
        tx in vec(any::<u8>(), 0..200),
    ) {
        let frag = VerdictFrag {
            token, source, block: c.block, verdict: TxVerdict::ALL[n], detail, vin: c.height, fee_sat: token ^ 1,
            txid: id, other,
        };
        prop_assert_eq!(VerdictFrag::decode(&frag.encode()), Some(frag));
        let block = c.block.max(1);
        for m in [
            ValidateControl::SetPool { context: Context { block: 0, ..c } },
            ValidateControl::OpenBlock { context: Context { block, ..c }, inputs_only },
            ValidateControl::CloseBlock { block },
        ] {
            prop_assert_eq!(ValidateControl::decode(&m.encode()), Some(m));
        }
        for m in [
            LongRequest::Begin { ticket: t, txid: id, context: c, tx: &tx },
            LongRequest::Input {
                ticket: t, vin: source, value_sat: token, coin_height: c.height, locking_script: &tx,
            },
            LongRequest::End { ticket: t },
            LongRequest::Audit { audit: &tx },
        ] {
            let mut buf = vec![0; m.encoded_len()];
            prop_assert_eq!(m.encode(&mut buf), Some(m.encoded_len()));
            prop_assert_eq!(LongRequest::decode(&buf), Some(m));
        }
        for outcome in [
            LongOutcome::Passed, LongOutcome::Failed { error: detail }, LongOutcome::TooCostly, LongOutcome::Overloaded,
        ] {
            let m = LongReply { ticket: t, vin: source, outcome };
            prop_assert_eq!(LongReply::decode(&m.encode()), Some(m));
        }
        let header = IngestHeader { token, source, block, index: c.height, flags: 0 };
        let mut buf = vec![0; IngestHeader::LEN + tx.len()];
        header.write(&mut buf);
        buf[IngestHeader::LEN..].copy_from_slice(&tx);
        prop_assert_eq!(IngestHeader::read(&buf), Some((header, &tx[..])));
    }

    #[test]
    fn a_batch_holds_what_fits_and_gives_it_back_in_order(
        e in epoch(), c in context(), ids in vec((ticket(), txid()), 1..40), room in 100..1_500_usize,
    ) {
        let mut buf = vec![0; room];
        let mut w = BatchWriter::new(&mut buf, e, c);
        let pushed = ids
            .iter()
            .take_while(|(ticket, txid)| w.push(&Request::Seen { ticket: *ticket, txid: *txid }))
            .count();
        prop_assert_eq!(pushed, ids.len().min((room - BatchHeader::LEN) / 41));
        let len = w.finish();
        let mut r = BatchReader::new(&buf[..len]).expect("a header");
        prop_assert_eq!((r.header().epoch, r.header().context), (e, c));
        for (ticket, txid) in &ids[..pushed] {
            match r.next_item::<Request>() {
                Some(Request::Seen { ticket: t, txid: id }) => prop_assert_eq!((t, id), (*ticket, *txid)),
                other => prop_assert!(false, "got {:?}", other),
            }
        }
        prop_assert!(r.next_item::<Request>().is_none());
        prop_assert!(r.is_done());
    }

    #[test]
    fn accepted_frags_come_back_as_sent(
        id in txid(), e in epoch(), seqs in any::<(u16, u32, u64, u64)>(), parents in vec(parent(), 0..9),
        tx in vec(any::<u8>(), 0..200),
    ) {
        for kind in [AcceptedKind::Pool, AcceptedKind::Block, AcceptedKind::Evicted] {
            let frag = Accepted {
                kind, shard: seqs.0, block: seqs.1, publish_seq: seqs.2, epoch: e, fee_sat: seqs.3, txid: id,
                parents: List::Own(&parents), tx: &tx,
            };
            let mut buf = vec![0; frag.encoded_len()];
            prop_assert_eq!(frag.encode(&mut buf), Some(frag.encoded_len()));
            let back = Accepted::decode(&buf).expect("decodes");
            prop_assert_eq!(back.txid, id);
            prop_assert_eq!(back.parents.iter().collect::<Vec<_>>(), parents.clone());
            prop_assert_eq!(back.tx, &tx[..]);
            let mut again = vec![0; back.encoded_len()];
            back.encode(&mut again);
            prop_assert_eq!(again, buf);
        }
    }

    #[test]
    fn admin_requests_come_back_as_sent(
        o in outpoint(), a in any::<(u64, u32, bool, u64, u64)>(), script in vec(any::<u8>(), 0..200), e in epoch(),
    ) {
        for item in [
            Admin::Import {
                outpoint: o, value_sat: a.0, height: a.1, coinbase: a.2, locking_script: &script,
            },
            Admin::Coinbase { txid: o.txid, tx: &script },
            Admin::SetMined { shard: a.1 as u16, block: a.1, height: a.1 ^ 1, from_seq: a.3, to_seq: a.4 },
            Admin::Preserve { txid: o.txid, until_height: a.1 },
            Admin::UnsetMined { block: a.1 },
            Admin::Freeze { outpoint: o, frozen: a.2 },
            Admin::NextEpoch { epoch: e },
            Admin::Query { token: a.0, outpoint: o },
            Admin::Totals { token: a.0 },
            Admin::Tip {
                tip: Tip {
                    is_begun: a.2, connects: !a.2, number: a.1, height: a.1 ^ 7, hash: BlockHash(o.txid.0),
                    coinbase: o.txid,
                },
            },
            Admin::Together { complete: a.0, checkpoint: a.3, installed: a.4 },
        ] {
            let bytes = bytes_of(&item);
            let (back, used) = Admin::decode(&bytes).expect("decodes");
            prop_assert_eq!(used, bytes.len());
            prop_assert_eq!(&bytes_of(&back), &bytes);
        }
    }

    #[test]
    fn what_a_shard_says_of_its_epochs_comes_back_as_sent(
        n in any::<(u64, u64, u64)>(), bits in any::<(bool, bool)>(), kinds in (0_usize..3, 0_usize..5),
        entry in any::<[u64; 5]>(),
    ) {
        use super::admin::{CheckpointAt as C, JournalHealth as H};
        let at = ShardEpochs {
            entered: n.0, durable: n.1, checkpoint_epoch: n.2, has_logged: bits.0, wants_checkpoint: bits.1,
            health: [H::Good, H::DiskFull, H::Failed][kinds.0],
            checkpoint: [C::Idle, C::Ordered, C::Writing, C::Written, C::Lost][kinds.1],
            entry,
        };
        let bytes = bytes_of(&AdminReply::Epochs { at });
        prop_assert_eq!(AdminReply::decode(&bytes), Some((AdminReply::Epochs { at }, bytes.len())));
        prop_assert_eq!(AdminReply::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Request::decode(&bytes);
        let _ = Reply::decode(&bytes);
        let _ = Admin::decode(&bytes);
        let _ = AdminReply::decode(&bytes);
        let _ = Accepted::decode(&bytes);
        let _ = VerdictFrag::decode(&bytes);
        let _ = ValidateControl::decode(&bytes);
        let _ = LongRequest::decode(&bytes);
        let _ = LongReply::decode(&bytes);
        let _ = IngestHeader::read(&bytes);
        let _ = crate::partition::first_outpoint(&bytes);
        if let Some(mut r) = BatchReader::new(&bytes) {
            while r.next_item::<Request>().is_some() {}
        }
    }
}

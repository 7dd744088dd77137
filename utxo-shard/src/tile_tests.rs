//! The tile on real links: batches in, batches out, one coordinator stopped without the others.

use crate::testing::*;
use crate::{ShardConfig, ShardTile};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::batch::Item;
use dataplane::msg::request::{Decision, List};
use dataplane::msg::*;
use dataplane::partition::Partition;
use dataplane::stem::{Stem, Turn};
use dataplane::tile::Stamp;
use dataplane::time::ManualClock;
use dataplane::topo::{BuildOptions, ExternalEnds, Kind::Lossless, Topology, each, one};

const MTU: u32 = 1024;
/// Less than the links in have: a script may come in that cannot be told.
const CONTROL_ARENA_BYTES: u32 = 1 << 16;

struct Bench {
    stem: Stem<ShardTile, ManualClock>,
    clock: ManualClock,
    validators: Vec<ExternalEnds>,
    pack: ExternalEnds,
    control: ExternalEnds,
}

impl Bench {
    fn new(replies: u32) -> Self {
        let mut t = Topology::new("shard alone");
        t.external("validate", 2);
        t.external("pack", 1);
        t.external("control", 1);
        t.tile::<ShardTile>(1);
        t.link("control_shard", 16, MTU, Lossless, one("control"), each("shard")).arena(1 << 20);
        t.link("validate_shard", 64, MTU, Lossless, each("validate"), each("shard")).arena(1 << 20);
        t.link("shard_validate", replies, MTU, Lossless, each("shard"), each("validate"))
            .window(replies)
            .arena(1 << 20);
        t.link("shard_pack", 16, MTU, Lossless, each("shard"), one("pack")).arena(1 << 20);
        t.link("shard_control", 16, MTU, Lossless, each("shard"), one("control"))
            .window(16)
            .arena(CONTROL_ARENA_BYTES.into());
        t.cores(1).place("shard", 0, 0);
        let plan = t.plan().expect("a sound table");
        let mut machine = plan.build(&BuildOptions::default()).expect("memory for links");
        let validators =
            (0..2).map(|i| machine.external("validate", i).expect("validators")).collect();
        let pack = machine.external("pack", 0).expect("pack");
        let control = machine.external("control", 0).expect("control");
        let wiring = machine.wiring("shard", 0).expect("the shard");
        let config = ShardConfig { partition: Partition::new([9; 16], 1, 2), ..config(0, 1) };
        let tile = ShardTile::new(config, &wiring);
        let clock = ManualClock::new();
        let stem = wiring.stem(tile, clock.clone());
        Self { stem, clock, validators, pack, control }
    }

    fn turn(&mut self) -> Turn {
        self.clock.advance(10_000);
        let turn = self.stem.turn();
        self.stem.tile().shard().check();
        turn
    }

    fn turns(&mut self, n: usize) {
        for _ in 0..n {
            self.turn();
        }
    }

    /// Publishes one item as a batch, in line or through the arena.
    fn send<'a>(ends: &mut ExternalEnds, context: Context, item: &impl Item<'a>) {
        let mut frag = vec![0; 1 << 20];
        let mut batch = BatchWriter::new(&mut frag, Epoch::default(), context);
        assert!(batch.push(item));
        let len = batch.finish();
        let out = &mut ends.outs[0];
        if len <= MTU as usize {
            out.publish(0, Stamp::default(), &frag[..len]).expect("credit");
        } else {
            let producer = out.producer();
            let mut large = producer.admit(len as u64, 7).expect("room in the arena");
            producer.write(&mut large, &frag[..len]).expect("within the claim");
            producer.publish_large(large, 0, 0).expect("credit");
        }
    }

    fn ask(&mut self, validator: usize, request: &Request<'_>) {
        Self::send(&mut self.validators[validator], POOL, request);
    }

    /// Everything a validator was told; each as text, because replies borrow.
    fn replies(&mut self, validator: usize) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(frag) = self.validators[validator].ins[0].poll() {
            let mut batch = BatchReader::new(frag.bytes).expect("a batch");
            assert_eq!(batch.header().epoch, Epoch { incarnation: 1, number: 1 });
            while let Some(reply) = batch.next_item::<Reply<'_>>() {
                all.push(match reply {
                    Reply::Coin { vin, coin, .. } => {
                        format!("coin {vin} of {} bytes", coin.locking_script.len())
                    }
                    Reply::Input { vin, verdict, .. } => format!("{vin}: {verdict:?}"),
                    Reply::Decided { publish_seq, .. } => format!("decided {publish_seq}"),
                    other => format!("{other:?}"),
                });
            }
            assert!(batch.is_done());
        }
        self.validators[validator].ins[0].return_credit();
        all
    }

    fn import(&mut self, outpoint: OutPoint, script: &[u8]) {
        let order = Admin::Import {
            outpoint,
            value_sat: 50,
            height: 10,
            coinbase: false,
            locking_script: script,
        };
        Self::send(&mut self.control, POOL, &order);
        self.turn();
        assert_eq!(self.answers(), ["Done { done: 1, refused: 0 }"]);
    }

    fn answers(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(frag) = self.control.ins[0].poll() {
            let mut batch = BatchReader::new(frag.bytes).expect("a batch");
            while let Some(answer) = batch.next_item::<AdminReply<'_>>() {
                all.push(format!("{answer:?}"));
            }
            assert!(batch.is_done());
        }
        self.control.ins[0].return_credit();
        all
    }

    fn published(&mut self) -> Vec<(u64, TxId, usize)> {
        let mut all = Vec::new();
        while let Some(frag) = self.pack.ins[0].poll() {
            let a = Accepted::decode(frag.bytes).expect("a publication");
            all.push((a.publish_seq, a.txid, a.tx.len()));
        }
        self.pack.ins[0].return_credit();
        all
    }
}

#[test]
fn a_batch_of_requests_is_answered_by_a_batch_and_the_decision_reaches_pack() {
    let mut b = Bench::new(16);
    b.import(at(1, 0), &p2pkh(1));
    let spend = tx(&[at(1, 0)], &[40], 1);
    let (txid, raw) = (spend.txid(), spend.to_bytes());
    let inputs = refs(&[at(1, 0)]);
    let t = ticket(1, 1);
    let mut frag = vec![0; MTU as usize];
    let mut batch = BatchWriter::new(&mut frag, Epoch::default(), POOL);
    assert!(batch.push(&Request::Announce { ticket: t, txid, tx: &raw }));
    assert!(batch.push(&Request::Seen { ticket: t, txid }));
    assert!(batch.push(&Request::Resolve { ticket: t, vin: 0, outpoint: at(1, 0) }));
    let decision = Decision { fee_sat: 10, parents: List::Own(&[]), tx: &[] };
    assert!(batch.push(&Request::Commit { ticket: t, txid, inputs: List::Own(&inputs), decision }));
    let len = batch.finish();
    b.validators[1].outs[0].publish(0, Stamp::default(), &frag[..len]).expect("credit");
    assert_eq!(b.turn(), Turn::Busy);
    let seen = format!("{:?}", Reply::Seen { ticket: t, state: SeenState::Unknown });
    assert_eq!(b.replies(1), [seen.as_str(), "coin 0 of 25 bytes", "decided 1"]);
    assert!(b.replies(0).is_empty());
    assert_eq!(b.published(), [(1, txid, raw.len())]);
    b.turns(3);
    assert!(b.stem.is_drained_now());
    Bench::send(&mut b.control, POOL, &Admin::Totals { token: 9 });
    b.turn();
    let answers = b.answers();
    assert_eq!(answers.len(), 2);
    assert!(answers[0].contains("utxos: 1") && answers[0].contains("publish_seq: 1"));
}

trait Drained {
    fn is_drained_now(&self) -> bool;
}

impl Drained for Stem<ShardTile, ManualClock> {
    fn is_drained_now(&self) -> bool {
        use dataplane::tile::Tile;
        self.tile().is_drained()
    }
}

#[test]
fn one_full_reply_link_stops_one_coordinator_and_loses_nothing() {
    let mut b = Bench::new(4);
    b.import(at(1, 0), &p2pkh(1));
    let per_batch = 20;
    let resolve = |n| Request::Resolve { ticket: ticket(n, 1), vin: n, outpoint: at(1, 0) };
    for n in 0..30 {
        let mut frag = vec![0; MTU as usize];
        let mut batch = BatchWriter::new(&mut frag, Epoch::default(), POOL);
        for i in 0..per_batch {
            assert!(batch.push(&resolve(n * per_batch + i)));
        }
        let len = batch.finish();
        b.validators[0].outs[0].publish(0, Stamp::default(), &frag[..len]).expect("credit");
    }
    b.turns(10);
    b.ask(1, &resolve(7));
    b.turns(2);
    assert_eq!(b.replies(1), ["coin 7 of 25 bytes"], "validator 1 is served while 0 is full");
    assert!(!b.stem.is_drained_now());
    let mut got = Vec::new();
    for _ in 0..400 {
        got.extend(b.replies(0));
        b.turn();
    }
    let expected: Vec<_> = (0..600).map(|n| format!("coin {n} of 25 bytes")).collect();
    assert_eq!(got, expected);
}

#[test]
fn long_transactions_and_long_scripts_go_through_the_arenas_and_in_pieces() {
    let mut b = Bench::new(16);
    let script = vec![0x51; 5_000];
    b.import(at(1, 0), &script);
    let mut wide = tx(&[at(1, 0)], &vec![3; 3_000], 1);
    wide.outputs[2_999].locking_script = script.clone();
    let (txid, raw) = (wide.txid(), wide.to_bytes());
    let t = ticket(1, 1);
    b.ask(0, &Request::Announce { ticket: t, txid, tx: &raw });
    let inputs = refs(&[at(1, 0)]);
    let decision = Decision { fee_sat: 10, parents: List::Own(&[]), tx: &[] };
    b.ask(0, &Request::Commit { ticket: t, txid, inputs: List::Own(&inputs), decision });
    b.ask(1, &Request::Resolve { ticket: t, vin: 4, outpoint: at(1, 0) });
    b.turn();
    assert!(b.stem.tile().shard().is_building(), "3,000 outputs take more than one turn");
    assert!(b.replies(1).is_empty(), "and nothing overtakes them");
    b.turns(40);
    assert_eq!(b.replies(0), ["decided 1"]);
    assert_eq!(b.published(), [(1, txid, raw.len())]);
    let by_it = format!("4: {:?}", InputVerdict::Spent { by: txid });
    assert_eq!(b.replies(1), [by_it.as_str()]);
    b.ask(1, &Request::Resolve { ticket: t, vin: 5, outpoint: OutPoint { txid, vout: 2_999 } });
    b.turns(2);
    assert_eq!(b.replies(1), ["coin 5 of 5000 bytes"]);
}

#[test]
fn a_decision_waits_until_pack_has_room() {
    let mut b = Bench::new(16);
    for n in 0..40 {
        b.import(at(n, 0), &p2pkh(1));
    }
    let mut sent = Vec::new();
    for n in 0..40 {
        let spend = tx(&[at(n, 0)], &[40], 1);
        let (txid, raw) = (spend.txid(), spend.to_bytes());
        let inputs = refs(&[at(n, 0)]);
        let decision = Decision { fee_sat: 10, parents: List::Own(&[]), tx: &raw };
        let inputs = List::Own(&inputs[..]);
        let ticket = ticket(u32::from(n), 1);
        b.ask(usize::from(n % 2), &Request::Commit { ticket, txid, inputs, decision });
        sent.push(txid);
    }
    b.turns(20);
    let first = b.published().len();
    assert_eq!(first, 16, "as many as the link is deep");
    let mut rest = 0;
    for _ in 0..200 {
        b.turn();
        rest += b.published().len();
        b.replies(0);
        b.replies(1);
    }
    assert_eq!(first + rest, 40);
}

#[test]
fn a_coinbase_of_many_outputs_and_the_orders_behind_it_are_answered_once() {
    let mut b = Bench::new(16);
    let coinbase = tx(&[OutPoint::NULL], &vec![9; 4_000], 1);
    let (txid, raw) = (coinbase.txid(), coinbase.to_bytes());
    Bench::send(&mut b.control, block(3, 450), &Admin::Coinbase { txid, tx: &raw });
    b.turn();
    assert!(b.answers().is_empty());
    b.turns(30);
    assert_eq!(b.answers(), ["Done { done: 1, refused: 0 }"]);
    assert_eq!(b.stem.tile().shard().totals().utxos, 4_000);
}

#[test]
fn questions_with_many_answers_come_in_several_batches() {
    let mut b = Bench::new(16);
    b.import(at(1, 0), &p2pkh(1));
    let mut frag = vec![0; MTU as usize];
    let mut batch = BatchWriter::new(&mut frag, Epoch::default(), POOL);
    let mut asked = 0;
    while batch.push(&Admin::Query { token: asked, outpoint: at(1, (asked % 2) as u32) }) {
        asked += 1;
    }
    let len = batch.finish();
    b.control.outs[0].publish(0, Stamp::default(), &frag[..len]).expect("credit");
    let mut answers = Vec::new();
    for _ in 0..50 {
        b.turn();
        answers.extend(b.answers());
    }
    assert_eq!(answers.len() as u64, asked + 1);
    assert_eq!(answers.last(), Some(&format!("Done {{ done: {asked}, refused: 0 }}")));
    assert!(answers[0].contains("value_sat: 50"), "{}", answers[0]);
    assert!(answers[1].contains("coin: None"));
}

#[test]
fn coins_with_long_scripts_are_told_one_by_one_and_what_never_fits_is_told_with_the_limit() {
    let mut b = Bench::new(16);
    for (n, bytes) in [(1, 25), (2, 40_000), (3, 70_000)] {
        b.import(at(n, 0), &vec![0x50 + n; bytes]);
    }
    let mut frag = vec![0; MTU as usize];
    let mut batch = BatchWriter::new(&mut frag, Epoch::default(), POOL);
    for (token, n) in [(0, 1), (1, 2), (2, 2), (3, 3), (4, 1)] {
        assert!(batch.push(&Admin::Query { token, outpoint: at(n, 0) }));
    }
    assert!(batch.push(&Admin::QueryMined { token: 5, outpoint: at(2, 0) }));
    let len = batch.finish();
    b.control.outs[0].publish(0, Stamp::default(), &frag[..len]).expect("credit");
    let mut told = Vec::new();
    for _ in 0..50 {
        b.turn();
        while let Some(frag) = b.control.ins[0].poll() {
            let mut batch = BatchReader::new(frag.bytes).expect("a batch");
            while let Some(answer) = batch.next_item::<AdminReply<'_>>() {
                told.push(match answer {
                    AdminReply::Coin { token, coin: Some(coin) } => {
                        let script = coin.locking_script;
                        assert!(script.iter().all(|byte| *byte == script[0]));
                        format!("{token}: {} times {:x}", script.len(), script[0])
                    }
                    other => format!("{other:?}"),
                });
            }
            assert!(batch.is_done());
        }
        b.control.ins[0].return_credit();
    }
    let limit = CONTROL_ARENA_BYTES as usize - BatchHeader::LEN - AdminReply::COIN_HEAD_BYTES;
    let too_long = AdminReply::CoinTooLong {
        token: 3,
        value_sat: 50,
        script_bytes: 70_000,
        script_bytes_max: limit as u64,
    };
    assert_eq!(
        told,
        [
            "0: 25 times 51".to_owned(),
            "1: 40000 times 52".to_owned(),
            "2: 40000 times 52".to_owned(),
            format!("{too_long:?}"),
            "4: 25 times 51".to_owned(),
            "5: 40000 times 52".to_owned(),
            "Done { done: 5, refused: 1 }".to_owned(),
        ]
    );
    assert!(b.stem.is_drained_now());
}

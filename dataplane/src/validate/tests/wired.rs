//! The tile itself, on real links, turned by its stem: frags in, frags out, large ones through arenas, costly ones by `long`.

use super::*;
use crate::long::Long;
use crate::stem::{Stem, Turn, Turnable};
use crate::tile::Stamp;
use crate::time::ManualClock;
use crate::topo::{BuildOptions, ExternalEnds, Kind::*, Topology, each, one};
use crate::validate::{Links, Validate};

const MIB: u64 = 1 << 20;

struct Rig {
    validate: Stem<Validate, ManualClock>,
    long: Stem<Long, ManualClock>,
    control: ExternalEnds,
    submit: ExternalEnds,
    end: ExternalEnds,
    listener: ExternalEnds,
    shard: FakeShard,
    clock: ManualClock,
    verdicts: Vec<VerdictFrag>,
    unsent: VecDeque<Vec<u8>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(verifier: Option<sigbatch::Backend>) -> Self {
        let mut t = Topology::new("validate alone");
        t.external("control", 1);
        t.external("submit", 1);
        t.external("shard", 1);
        t.external("verdict", 1);
        t.tile::<Validate>(1);
        t.tile::<Long>(1);
        t.link("control_validate", 16, 64, Lossless, one("control"), each("validate"));
        t.link("shard_validate", 64, 8_192, Lossless, one("shard"), each("validate"))
            .window(64)
            .arena(4 * MIB);
        t.link("long_validate", 64, 64, Lossless, one("long"), each("validate")).window(64);
        t.link("submit_validate", 64, 2_048, Lossless, one("submit"), each("validate"))
            .arena(4 * MIB);
        t.link("validate_shard", 16, 8_192, Lossless, each("validate"), one("shard"))
            .arena(4 * MIB);
        t.link("validate_long", 16, 2_048, Lossless, each("validate"), one("long")).arena(4 * MIB);
        t.link("validate_verdict", 64, 96, Lossless, each("validate"), one("verdict"));
        t.cores(1).place("validate", 0, 0);
        t.floating("long");
        let mut machine = t
            .plan()
            .expect("a sound table")
            .build(&BuildOptions::default())
            .expect("links are taken");
        let partition = Partition::new([7; 16], 1, 1);
        let config = Config {
            partition: partition.clone(),
            params: params(),
            bounds: Bounds::small(),
            policy: Policy::default(),
            seed: 3,
            verifier,
        };
        let clock = ManualClock::new();
        let wiring = machine.wiring("validate", 0).expect("there");
        let links = Links::of(&wiring, 8_192, 2_048);
        let validate = wiring.stem(Validate::new(config.clone(), links), clock.clone());
        let wiring = machine.wiring("long", 0).expect("there");
        let long = Long::new(&config, &wiring);
        let long = wiring.stem(long, clock.clone());
        let mut rig = Self {
            validate,
            long,
            control: machine.external("control", 0).expect("there"),
            submit: machine.external("submit", 0).expect("there"),
            end: machine.external("shard", 0).expect("there"),
            listener: machine.external("verdict", 0).expect("there"),
            shard: FakeShard::new(0, partition, params()),
            clock,
            verdicts: Vec::new(),
            unsent: VecDeque::new(),
        };
        let pool = ValidateControl::SetPool { context: World::pool(HEIGHT) };
        rig.control.outs[0].publish(0, Stamp(0), &pool.encode()).expect("credit");
        rig.turns(4);
        rig
    }

    fn offer(&mut self, token: u64, tx: &[u8]) -> bool {
        let mut frag = vec![0; IngestHeader::LEN];
        IngestHeader { token, source: 1, ..IngestHeader::default() }.write(&mut frag);
        frag.extend_from_slice(tx);
        let out = &mut self.submit.outs[0];
        if frag.len() <= 2_048 {
            return out.publish(0, Stamp(0), &frag).is_ok();
        }
        let producer = out.producer();
        let mut large = producer.admit(frag.len() as u64, token).expect("room");
        producer.write(&mut large, &frag).expect("as claimed");
        producer.publish_large(large, 0, 0).expect("credit");
        true
    }

    fn turns(&mut self, most: usize) {
        for _ in 0..most {
            self.clock.advance(10_000);
            let mut idle = self.validate.turn() == Turn::Idle;
            idle &= self.long.turn() == Turn::Idle;
            while let Some(frag) = self.end.ins[0].poll() {
                let bytes = frag.bytes.to_vec();
                self.shard.take(0, &bytes);
                idle = false;
            }
            self.end.ins[0].return_credit();
            self.unsent.extend(self.shard.replies.drain(..).map(|(_, bytes)| bytes));
            while let Some(bytes) = self.unsent.front() {
                let sent = if bytes.len() <= 8_192 {
                    self.end.outs[0].publish(0, Stamp(0), bytes).is_ok()
                } else {
                    let producer = self.end.outs[0].producer();
                    producer.admit(bytes.len() as u64, 0).is_ok_and(|mut large| {
                        producer.write(&mut large, bytes).expect("as claimed");
                        producer.publish_large(large, 0, 0).is_ok()
                    })
                };
                if !sent {
                    break;
                }
                self.unsent.pop_front();
                idle = false;
            }
            while let Some(frag) = self.listener.ins[0].poll() {
                self.verdicts.push(VerdictFrag::decode(frag.bytes).expect("a verdict"));
                idle = false;
            }
            self.listener.ins[0].return_credit();
            if idle && most > 100 {
                return;
            }
        }
    }

    fn coin(&mut self, n: u32, value_sat: u64, script: &[u8]) -> OutPoint {
        let at = OutPoint { txid: TxId::of(&n.to_le_bytes()), vout: 0 };
        self.shard.import(at, value_sat, script, 15_000);
        at
    }

    #[track_caller]
    fn expect(&self, token: u64, verdict: TxVerdict) {
        let got = self.verdicts.iter().find(|v| v.token == token);
        assert_eq!(got.map(|v| v.verdict), Some(verdict), "copy {token}: {got:?}");
    }
}

#[test]
fn a_signed_transaction_goes_through_the_tile_on_its_links() {
    let mut rig = Rig::new();
    let a = rig.coin(1, 1_000, &p2pkh(1));
    let mut t = tx(&[a], &[900]);
    sign(&mut t, 0, 1, 1_000);
    rig.offer(1, &t.to_bytes());
    rig.turns(1_000);
    rig.expect(1, TxVerdict::Accepted);
    assert!(rig.validate.is_drained());
}

#[test]
fn a_large_transaction_travels_through_the_arenas() {
    let mut rig = Rig::new();
    let a = rig.coin(1, 1_000_000, OP_TRUE);
    let mut t = tx(&[a], &[900]);
    t.outputs[0].locking_script = vec![0x61; 300_000];
    let child = tx(&[out(&t, 0)], &[1]);
    rig.offer(1, &extended(&t, &[(1_000_000, OP_TRUE)]));
    rig.turns(1_000);
    rig.offer(2, &tx(&[a], &[5]).to_bytes());
    rig.turns(1_000);
    rig.expect(1, TxVerdict::Accepted);
    rig.expect(2, TxVerdict::DoubleSpend);
    assert!(rig.shard.coins.contains_key(&child.inputs[0].prev));
    assert!(rig.validate.is_drained());
}

#[test]
fn a_costly_script_is_run_by_the_slow_lane_and_a_hopeless_one_is_told() {
    let mut rig = Rig::new();
    let costly = [0x76, 0x75].repeat(60_000);
    let a = rig.coin(1, 1_000, &[&[0x51][..], &costly].concat());
    let b = rig.coin(2, 1_000, &[&costly[..], &[0x51]].concat());
    // The second script begins with a DUP of nothing.
    rig.offer(1, &tx(&[a], &[900]).to_bytes());
    rig.offer(2, &tx(&[a, b], &[800]).to_bytes());
    rig.turns(2_000);
    rig.expect(1, TxVerdict::Accepted);
    let got = rig.verdicts.iter().find(|v| v.token == 2).expect("a verdict");
    assert!(matches!(got.verdict, TxVerdict::DoubleSpend | TxVerdict::ScriptFailed), "{got:?}");
    assert!(rig.validate.tile().counts().inputs_long >= 1);
    assert!(rig.validate.is_drained());
    assert!(rig.long.is_drained());
}

#[test]
fn more_than_the_links_hold_is_pushed_back_and_nothing_is_lost() {
    let mut rig = Rig::new();
    let coins: Vec<OutPoint> = (0..500).map(|n| rig.coin(n, 1_000, OP_TRUE)).collect();
    let mut sent = 0;
    for _ in 0..5_000 {
        if sent == coins.len() {
            break;
        }
        for _ in 0..40 {
            let Some(coin) = coins.get(sent) else { break };
            let bytes = tx(&[*coin], &[900]).to_bytes();
            if !rig.offer(sent as u64, &bytes) {
                break;
            }
            sent += 1;
        }
        rig.turns(3);
    }
    rig.turns(10_000);
    assert_eq!(rig.verdicts.len(), 500);
    assert!(rig.verdicts.iter().all(|v| v.verdict == TxVerdict::Accepted));
    assert!(rig.validate.tile().counts().reconcile());
}

#[test]
fn one_accepted_signature_in_256_travels_to_the_slow_lane() {
    let mut rig = Rig::with(Some(sigbatch::Backend::Model));
    let mut n = 0;
    for token in 1..=20 {
        let coins: Vec<OutPoint> = (0..14)
            .map(|_| {
                n += 1;
                rig.coin(n, 1_000, &p2pkh(1))
            })
            .collect();
        let mut t = tx(&coins, &[13_000]);
        for i in 0..coins.len() {
            sign(&mut t, i, 1, 1_000);
        }
        assert!(rig.offer(token, &t.to_bytes()));
        rig.turns(60);
        rig.expect(token, TxVerdict::Accepted);
    }
    let counts = rig.validate.tile().counts();
    assert_eq!((counts.signatures_batched, counts.signatures_audited), (280, 1));
    assert!(counts.signatures_by_kernel > 256, "{}", counts.signatures_by_kernel);
    let waiting = rig.validate.tile_mut().core.verifier.take_audit();
    assert!(waiting.is_none(), "it went over the link");
    assert_eq!(sigbatch::disagreements(), 0);
}
